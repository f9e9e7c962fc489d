"""Whatever is killed in the middle, a run ends once and is told in full; and nothing runs when there is nothing to do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.api import until
from tests.e2e.conftest import NewServer
from tests.e2e.image import ensure_image
from tests.e2e.vh import VhHome

RUNTIMES = pytest.mark.parametrize("runtime", ["process", "docker"])


@pytest.fixture(scope="module", autouse=True)
def _image() -> None:
    ensure_image()


def in_the_middle(vh: VhHome) -> None:
    """A run of some seconds has begun to print."""
    vh.run("slow", "--seconds=8")
    started = vh.started()
    until(lambda: "line 5" in vh.server.events(started), "the run has printed some lines")


def ended_whole(vh: VhHome) -> None:
    """It ended well and once, and each of its lines is there once, in order."""
    ended = vh.ended()
    number = int(vh.output(ended, "late.txt"))
    assert vh.server.events(ended) == ["first line", *(f"line {n}" for n in range(1, number + 1)), "last line"]
    assert sorted(datum["name"] for datum in vh.server.outputs(ended)) == ["early.txt", "late.txt"]


def user_code(vh: VhHome) -> list[int]:
    """The processes that run `slow.py`, as this machine sees them."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if b"slow.py" in words and vh.project.encode() in environment:
                found.append(int(name))
    return found


@RUNTIMES
def test_a_run_outlives_its_server(runtime: str, new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(runtime)
    vh = VhHome(server, tmp_path / "home").log_in()
    in_the_middle(vh)

    server.restart(kill=True)

    ended_whole(vh)


@RUNTIMES
def test_a_run_that_ends_while_its_server_is_away_is_told_later(
    runtime: str, new_server: NewServer, tmp_path: Path
) -> None:
    server = new_server(runtime)
    vh = VhHome(server, tmp_path / "home").log_in()
    in_the_middle(vh)

    server.kill()
    until(lambda: not user_code(vh), "the run ends by itself")
    server.start()

    ended_whole(vh)


@RUNTIMES
def test_a_run_outlives_its_agent(runtime: str, new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(runtime)
    vh = VhHome(server, tmp_path / "home").log_in()
    in_the_middle(vh)
    (agent,) = server.agents()

    os.kill(agent, signal.SIGKILL)

    ended_whole(vh)
    assert agent not in server.agents()


def test_nothing_runs_when_there_is_nothing_to_do(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server("process", idle_seconds=1)
    vh = VhHome(server, tmp_path / "home").log_in()
    assert server.machine_processes() == []

    vh.run("prep")
    vh.ended()

    until(lambda: server.machine_processes() == [], "the machine goes out", seconds=60)
    vh.run("prep")
    vh.ended()
