"""The emulated AWS that the stories of a deployed stack share."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployed.deployment import Deployment, deployed
from tests.docker import ensure_docker
from tests.emulators.ministack import Ministack

_told: list[Any] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A story that fails tells what the emulator and the machines said."""
    report = yield
    if report.failed:
        report.sections += [("told", tell()) for tell in _told]
    return report


@pytest.fixture(scope="session")
def bridge() -> str:
    """The address of this machine that functions, clients and the containers of machines all reach."""
    ensure_docker()
    shown = subprocess.run(
        ["docker", "network", "inspect", "bridge"], capture_output=True, text=True, timeout=60, check=True
    )
    return str(json.loads(shown.stdout)[0]["IPAM"]["Config"][0]["Gateway"])


@pytest.fixture(scope="module")
def aws(bridge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """One account, with policies enforced."""
    folder: Path = tmp_path_factory.mktemp("aws")
    with Ministack(folder, bind=bridge, address=bridge, enforce_iam=True) as started:
        _told.append(lambda: started.log.read_text("utf-8", "replace")[-20_000:])
        yield started


@pytest.fixture
def tells() -> Callable[[Callable[[], str]], None]:
    """Takes a function whose text is shown when the story fails."""
    return _told.append


@pytest.fixture(scope="module")
def deployment(aws: Ministack, bridge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A stack that has begun, for the stories of a module."""
    with deployed("lamplighter", aws, bridge, tmp_path_factory.mktemp("stack")) as there:
        _told.append(there.tell)
        there.begin()
        yield there
