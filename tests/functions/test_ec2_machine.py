"""A whole EC2 machine: the real agent, with a metadata service, at the real server, which has STS confirm who it is."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.catalogue import adapter
from adapters.clouds.memory import MemoryCloud
from adapters.stores.local_disk import LocalDiskStore
from functions.asgi import Application
from lamplighter.domain.machines import MachineState
from lamplighter.ports import CloudMachine, LaunchRequest
from lamplighter.usecases import machines
from tests.doubles import SteppingClock
from tests.functions.serving import address_of, serving
from tests.life import Life
from tests.sts_double import ACCOUNT, INSTANCE, REGION, ROLE, Sts, instance
from tests.worker.harness import Agent
from tests.worker.metadata_double import Metadata, told_to


class OneInstance(MemoryCloud):
    """A cloud whose machine is always the instance that this test boots."""

    def launch(self, request: LaunchRequest) -> CloudMachine:
        return replace(super().launch(request), cloud_id=INSTANCE)


class Stage:
    """The server, STS, and one instance with its agent."""

    def __init__(self, folder: Path, url: str, sts: Sts, metadata: Metadata) -> None:
        clock = SteppingClock()
        disk = LocalDiskStore(folder / "store", base_url=url, signing_key=b"k" * 32, clock=clock)
        self.life = Life(cloud=OneInstance(clock), store=lambda _: disk, clock=clock, cloud_name="ec2")
        installation = replace(self.life.world.installation, url=url, poll_seconds=0.05)
        identity = adapter("identities", "ec2")(
            region=REGION, account=ACCOUNT, role=ROLE, installation=installation.id, endpoint_url=sts.url
        )
        self.life.world = replace(self.life.world, installation=installation, identities={"ec2": identity})
        (folder / "uploads").mkdir()
        self.application = Application(self.life.world, upload_folder=folder / "uploads", objects=disk)
        self.sts = sts
        self.agent = Agent(_control(url), folder / "agent", "process")
        self.agent.introduction = ["--identity", "ec2", "--installation", installation.id]
        self.agent.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata.url
        self.agent.variables["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"

    def until(self, state: MachineState) -> None:
        """Moves the control plane until its one machine is in this state."""

        def reached() -> bool:
            self.life.settle()
            return [m.state for m in self.life.machines()] == [state]

        self.agent.until(reached, f"a machine that is {state}")


def _control(url: str) -> Any:
    """What the harness wants to know of a control plane."""
    return SimpleNamespace(url=url, server_port=url.rpartition(":")[2], join_token="", executions={}, faults=[])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    caller = instance()
    sts, metadata = Sts(caller), Metadata(told_to(caller))
    with ExitStack() as stack:
        stack.callback(sts.close)
        stack.callback(metadata.server_close)
        stack.callback(metadata.shutdown)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        made = Stage(tmp_path, address_of(listener), sts, metadata)
        stack.callback(made.application.close)
        stack.enter_context(serving(made.application, listener))
        yield made
        if made.agent.process is not None and made.agent.process.poll() is None:
            made.agent.kill()


def test_an_instance_boots_before_its_launch_is_recorded_comes_in_and_runs_a_step(stage: Stage) -> None:
    stage.agent.start()
    stage.agent.until(lambda: len(stage.sts.asked) > 1, "a second try of a machine that nobody knows yet")
    assert stage.life.machines() == []

    execution = stage.life.submit()
    stage.until(MachineState.IDLE)
    stage.agent.until(lambda: stage.life.execution(execution.id).status.terminal, "the end of the run")

    ended = stage.life.execution(execution.id)
    assert ended.status.value == "complete", ended
    assert [m.cloud_id for m in stage.life.machines()] == [INSTANCE]
    assert stage.agent.terminate() == 0


def test_an_instance_that_was_given_up_while_it_booted_powers_off(stage: Stage) -> None:
    stage.life.submit()
    stage.until(MachineState.REQUESTED)
    machines.retire_idle(world=stage.life.world, because="it took too long to boot")

    stage.agent.start()

    assert stage.agent.wait() == 0
    assert "it took too long to boot" in stage.agent.log.read_text()


def test_an_instance_of_another_account_is_turned_away(stage: Stage) -> None:
    stranger = instance(account="999999999999")
    stage.sts.callers[stranger.credentials.access_key_id] = stranger
    stage.life.submit()
    stage.until(MachineState.REQUESTED)

    stage.agent.start()

    assert stage.agent.wait() == 0
    assert "is no instance under the role" in stage.agent.log.read_text()
    assert [m.state for m in stage.life.machines()] == [MachineState.REQUESTED]
