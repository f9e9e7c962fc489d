"""Resident memory of an agent that waits, and the most it ever had while a run logs, reports metadata and stores files.

Goal: at most 30 MB at rest. The floor is a Python process that does nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.bench._stage import Project, server, verdict

GOAL_MB = 30.0
LOG = "yes 'one of the short lines that training programs print' | head -n 200000"
METADATA = 'python -c "import json;[print(json.dumps(dict(step=i, loss=1/(i+1)))) for i in range(20000)]"'
FILES = 'head -c 200000000 /dev/zero > "$VH_OUTPUTS_DIR/large"; for i in $(seq 200); do echo $i > "$VH_OUTPUTS_DIR/$i"; done'


def memory(pid: int | str, field: str) -> float:
    """Megabytes of `VmRSS` (now) or `VmHWM` (the most)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024 / 1e6


def floor() -> float:
    waiting = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert waiting.stdout
    waiting.stdout.readline()
    found = memory(waiting.pid, "VmRSS")
    waiting.communicate(b"\n")
    return found


def row(name: str, megabytes: float, told: str = "") -> None:
    print(f"{name:52} {megabytes:7.1f}  {told}".rstrip())


def main() -> None:
    with server("process", "--max-machines", "1") as running:
        project = Project(running, {"nothing": "true", "log": LOG, "metadata": METADATA, "files": FILES})
        project.run("nothing")
        (agent,) = running.agents()
        idle = memory(agent, "VmRSS")
        most = {}
        for step in ("log", "metadata", "files"):
            project.run(step)
            most[step] = memory(agent, "VmHWM")
        after = memory(agent, "VmRSS")
    print(f"{'agent, resident memory':52} {'MB':>7}  goal")
    row("an idle Python (floor)", floor())
    row("waiting, after one run", idle, f"{GOAL_MB:.0f} {verdict(idle <= GOAL_MB)}")
    row("the most so far: 200,000 log lines at once", most["log"])
    row("the most so far: 20,000 metadata points at once", most["metadata"])
    row("the most so far: a 200 MB file and 200 small ones", most["files"])
    row("waiting again", after)


if __name__ == "__main__":
    main()
