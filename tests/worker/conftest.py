"""Shared by the tests of the agent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.control_double import Control
from tests.worker.harness import Agent


@pytest.fixture
def control() -> Iterator[Control]:
    running = Control()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def new_agent(control: Control, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    made: list[Agent] = []

    def make(runtime: str = "process", name: str = "agent") -> Agent:
        made.append(Agent(control, tmp_path / name, runtime))
        return made[-1]

    yield make
    for agent in made:
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()
    for execution_id in control.executions:
        _kill_marked(f"VH_JOB_ID=exec-{execution_id}".encode())


@pytest.fixture
def agent(new_agent: Callable[..., Agent]) -> Agent:
    """An agent without containers."""
    return new_agent()


def _kill_marked(marker: bytes) -> None:
    """A test that failed may leave its run behind."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if marker in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
