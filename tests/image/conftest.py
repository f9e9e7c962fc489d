"""What the stories of the worker's image share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lamplighter.ports import LaunchRequest
from tests.image.control import ControlPlane, InstanceCloud
from tests.image.instance import Instance

_instances: list[Any] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A story that fails tells what its machines said."""
    report = yield
    if report.failed:
        report.sections += [(instance.name, instance.logs()) for instance in _instances]
    return report


@pytest.fixture
def new_instance() -> Iterator[Callable[..., Instance]]:
    """Starts an instance for one story; takes what `Instance` takes."""
    with ExitStack() as ends:

        def start(*arguments: Any, **more: Any) -> Instance:
            instance = Instance(*arguments, **more)
            ends.callback(_forget, instance)
            _instances.append(instance)
            return instance.start()

        yield start


@pytest.fixture
def new_control(tmp_path: Path) -> Iterator[Callable[..., ControlPlane]]:
    """Starts a control plane whose machines `boot` starts; takes what `ControlPlane` takes after the cloud."""
    with ExitStack() as ends:

        def start(boot: Callable[[LaunchRequest], Any], **more: Any) -> ControlPlane:
            def noted(request: LaunchRequest) -> Any:
                instance = boot(request)
                _instances.append(instance)
                return instance

            control = ControlPlane(tmp_path / "state", InstanceCloud(noted), **more)
            ends.callback(control.stop)
            return control.start()

        yield start
    _instances.clear()


def _forget(instance: Instance) -> None:
    instance.stop()
    _instances.remove(instance)
