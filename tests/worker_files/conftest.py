"""Shared by the tests of the agent's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker_files.outputs_world import World
from tests.worker_files.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def world(tmp_path: Path, server: Server) -> World:
    return World(tmp_path, server)
