"""Shared by the tests of the agent's files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.worker_files.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.shutdown()
    running.server_close()
