"""Accepted orders and heartbeats a second over HTTP, from 8 kept-alive connections; floor: bare uvicorn with one durable commit.

An order is one transaction of about ten records, a heartbeat one of one record; both are on the disk when they are answered.
The clients share the machine's cores with the server, and some thousand executions are queued in the end. Goal: an order costs
at most 1 ms of a core, with all that follows from it (state machine, capacity, sweeps).
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.metadata.sqlite import SqliteMetadata
from lamplighter import keys
from lamplighter.domain.leases import Lease
from lamplighter.records import find
from tests.bench._stage import Caller, Project, cpu_seconds, place, server, verdict
from tests.e2e.api import until
from tests.e2e.ports import free_port
from tests.e2e.server import RunningServer

CLIENTS = 8
SECONDS = 8.0
ORDER_MS = 1.0
Call = Callable[[], object]


def rate(calls: list[Call]) -> float:
    """Calls a second, all of these at once, each by a thread of its own, again and again."""
    counts = [0] * len(calls)
    begun = time.monotonic()

    def repeat(index: int) -> None:
        while time.monotonic() - begun < SECONDS:
            calls[index]()
            counts[index] += 1

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


def floor() -> float:
    port = free_port()
    with place() as folder:
        command = [sys.executable, "-m", "tests.bench._floor_server", str(port), str(folder / "db")]
        running = subprocess.Popen(command)
        try:
            connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(CLIENTS)]
            until(lambda: _hello(connections[0]), "the floor answers")
            return rate([lambda c=c: _hello(c) for c in connections])  # type: ignore[misc]
        finally:
            running.terminate()
            running.wait()


def _hello(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("POST", "/", b"{}")
        connection.getresponse().read()
    except OSError:
        connection.close()
        return False
    return True


def orders(running: RunningServer, project: Project) -> list[Call]:
    body = json.dumps(project.order("wait")).encode()
    callers = [Caller(running) for _ in range(CLIENTS)]
    return [lambda c=c: c.send("POST", "/api/v0/executions/", body, "application/json") for c in callers]  # type: ignore[misc]


def heartbeats(running: RunningServer, held: list[str]) -> list[Call]:
    """As the agents of all the machines would send them, each for the run that it holds."""
    metadata = SqliteMetadata(running.state / "metadata.sqlite3")
    leases = [find(metadata, Lease, keys.lease(execution_id)) for execution_id in held]
    metadata.close()
    return [_beat(Caller(running), stored.value, _session(running.state, stored.value)) for stored in leases if stored]


def _session(state: Path, lease: Lease) -> str:
    (found,) = state.rglob(f"{lease.machine_id}/session.json")
    return str(json.loads(found.read_text())["registered"]["session"])


def _beat(caller: Caller, lease: Lease, session: str) -> Call:
    path = f"/api/worker/v0/executions/{lease.execution_id}/heartbeat/"
    beat: dict[str, Any] = {"epoch": {"generation": lease.generation, "n": lease.n}, "seq": 1_000_000, "phase": ""}

    def call() -> None:
        beat["seq"] += 1
        caller.send("POST", path, json.dumps(beat).encode(), "application/json", f"Session {session}")

    return call


def main() -> None:
    least = floor()
    with server("process", "--max-machines", str(CLIENTS)) as running:
        project = Project(running, {"wait": "sleep 600"})
        held = [project.submit("wait") for _ in range(CLIENTS)]
        for execution_id in held:
            until(
                lambda e=execution_id: running.get(f"/api/v0/executions/{e}/")["status"] == "started",  # type: ignore[misc]
                "the machines are busy",
            )
        used = cpu_seconds(running.pid)
        beats = rate(heartbeats(running, held))
        beat_cpu = (cpu_seconds(running.pid) - used) / (beats * SECONDS)
        used = cpu_seconds(running.pid)
        taken = rate(orders(running, project))
        order_cpu = (cpu_seconds(running.pid) - used) / (taken * SECONDS)
    print(f"{f'{CLIENTS} connections':44} {'/s':>7} {'of floor':>9} {'server ms':>10}  goal")
    print(f"{'bare uvicorn, one durable commit (floor)':44} {least:7.0f} {1:9.2f}")
    print(f"{'heartbeats':44} {beats:7.0f} {beats / least:9.2f} {beat_cpu * 1000:10.2f}")
    told = f"{ORDER_MS:.0f} ms {verdict(order_cpu * 1000 <= ORDER_MS)}"
    print(f"{'orders':44} {taken:7.0f} {taken / least:9.2f} {order_cpu * 1000:10.2f}  {told}")


if __name__ == "__main__":
    main()
