"""Orders for machines, and questions to the clouds and processes that they become."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamplighter.errors import NotYet
from lamplighter.ports import Cloud, CloudMachine, LaunchRequest

SLEEPER = ("/bin/sh", "-c", "exec sleep 600", "worker")


def a_request(name: str = "one", **changes: Any) -> LaunchRequest:
    request = LaunchRequest(
        launch_token=f"token-{name}",
        machine_id=f"machine-{name}",
        installation="ours",
        environment="small",
        control_url="http://127.0.0.1:9",
        join_token="join-secret",
        options={"runtime": "process", "input_networks": "any"},
    )
    return replace(request, **changes)


def until(question: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not question():
        assert time.monotonic() < end, "it did not come to pass within a minute"
        time.sleep(0.02)


def put_out(cloud: Cloud, machine_id: str) -> None:
    def gone() -> bool:
        try:
            cloud.terminate(machine_id)
        except NotYet:
            return False
        return True

    until(gone)


def seen(cloud: Cloud, machine_id: str, installation: str = "ours") -> CloudMachine | None:
    return next((m for m in cloud.describe(installation) if m.machine_id == machine_id), None)


def state(cloud: Cloud, machine_id: str) -> str | None:
    machine = seen(cloud, machine_id)
    return machine.state if machine else None


def pids(directory: Path) -> set[int]:
    """Living processes whose environment names a machine below `directory`."""
    mark = b"LAMPLIGHTER_MACHINE_DIR=" + os.fsencode(directory) + b"/"
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in Path(f"/proc/{name}/environ").read_bytes():
                found.add(int(name))
        except OSError:
            continue
    return found
