"""Servers that the stories share, and a fresh home for each story."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.image import ensure_image
from tests.e2e.server import CLIENTS, RunningServer
from tests.e2e.services import web_files
from tests.e2e.vh import VhHome

WEB = {"/first.txt": b"the first", "/second.txt": b"the second"}

_servers: list[RunningServer] = []

NewServer = Callable[..., RunningServer]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A story that fails tells what its servers said."""
    report = yield
    if report.failed:
        report.sections += [("server", server.tail()) for server in _servers]
    return report


@pytest.fixture(scope="session", autouse=True)
def _clients() -> None:
    assert (CLIENTS / "vh").exists(), f"there are no clients in {CLIENTS}: run `make setup`"


@pytest.fixture(scope="session")
def process_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Runs steps as plain processes."""
    yield from _shared(tmp_path_factory.mktemp("process"), "process")


@pytest.fixture(scope="session")
def docker_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Runs steps in containers."""
    ensure_image()
    yield from _shared(tmp_path_factory.mktemp("docker"), "docker")


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[NewServer]:
    """Starts a server for one story alone; takes what `RunningServer` takes after the state."""
    with ExitStack() as ends:

        def start(runtime: str = "process", *options: str, **more: Any) -> RunningServer:
            server = RunningServer(tmp_path / f"state-{len(_servers)}", runtime, *options, **more)
            _servers.append(server)
            ends.callback(_servers.remove, server)
            ends.callback(server.stop)
            return server.start()

        yield start


@pytest.fixture
def vh(process_server: RunningServer, tmp_path: Path) -> VhHome:
    """A home on the server that runs steps as plain processes."""
    return VhHome(process_server, tmp_path / "home").log_in()


@pytest.fixture(params=["process", "docker"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> VhHome:
    """A home on a server of either runtime: what the story tells must be true of both."""
    server: RunningServer = request.getfixturevalue(f"{request.param}_server")
    return VhHome(server, tmp_path / "home").log_in()


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """Two small files on the web, `/first.txt` and `/second.txt`."""
    with web_files(WEB) as url:
        yield url


def _shared(folder: Path, runtime: str) -> Iterator[RunningServer]:
    server = RunningServer(folder / "state", runtime, "--max-machines", "3")
    _servers.append(server)
    try:
        yield server.start()
    finally:
        server.stop()
        _servers.remove(server)
