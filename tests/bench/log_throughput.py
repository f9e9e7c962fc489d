"""Log lines a second, from a program that prints 1,000,000 of them at once to "stored"; and 200,000 read back over REST.

Floors: the same program writing into a file, and `gzip -1` of that file. Goal: 200,000 lines per second of one core, spent by
agent and server together.
"""

from __future__ import annotations

import json
import subprocess
import time

from tests.bench._stage import Project, cpu_seconds, moment, place, server, timed, verdict

LINES = 1_000_000
READ = 200_000
GOAL = 200_000
TEXT = "epoch 3: one of the short lines that training programs print"


def program(lines: int) -> str:
    return f"yes '{TEXT}' | head -n {lines}"


def row(name: str, lines: int, seconds: float, told: str = "") -> None:
    print(f"{name:52} {seconds:8.2f} {lines / seconds / 1000:10.0f}  {told}".rstrip())


def floors() -> tuple[float, float, float]:
    """Seconds of writing, of gzip, and of making the JSON that a reader gets."""
    with place() as folder:
        path = folder / "log"
        writing = timed(lambda: subprocess.run(["sh", "-c", f"{program(LINES)} > {path}"], check=True))
        packing = timed(lambda: subprocess.run(["gzip", "-1", path], check=True))
    events = [{"stream": "stdout", "time": "2026-01-01T00:00:00.000000Z", "message": TEXT} for _ in range(READ)]
    return writing, packing, timed(lambda: json.dumps(events))


def main() -> None:
    writing, packing, rendering = floors()
    with server("process", "--max-machines", "1") as running:
        project = Project(running, {"many": program(LINES), "some": program(READ)})
        some = project.run("some")["id"]
        (agent,) = running.agents()
        before = cpu_seconds(agent), cpu_seconds(running.pid)
        ended = project.run("many")
        of_agent, of_server = cpu_seconds(agent) - before[0], cpu_seconds(running.pid) - before[1]
        wall = moment(ended["end_time"]) - moment(ended["start_time"])
        stored = running.get(f"/api/v0/executions/{ended['id']}/events/?limit=1")["total"]
        assert stored >= LINES, f"{stored} of {LINES} lines were stored"
        begun = time.perf_counter()
        found = running.get(f"/api/v0/executions/{some}/events/?limit=0")["events"]
        reading = time.perf_counter() - begun
        assert sum(event["message"] == TEXT for event in found) == READ
    print(f"{'log lines':52} {'seconds':>8} {'1000 l/s':>10}  goal")
    row("the program, into a file (floor)", LINES, writing)
    row("gzip -1 of the file (floor)", LINES, packing)
    row("printed to stored, as the clock runs", LINES, wall)
    row("agent, CPU", LINES, of_agent)
    row("server, CPU", LINES, of_server)
    both = of_agent + of_server
    row("agent and server, CPU", LINES, both, f"{GOAL // 1000} {verdict(LINES / both >= GOAL)}")
    row("JSON of 200,000 events (floor)", READ, rendering)
    row("200,000 read over REST", READ, reading)


if __name__ == "__main__":
    main()
