"""The whole product on an emulated AWS: deployed by sam, used by the unmodified vh, its machines booted from the image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deployed.gateway import Gateway
from tests.deployed.hypervisor import Hypervisor, user_data_of
from tests.deployed.stack import Stack, parameters
from tests.e2e.api import Api
from tests.e2e.image import IMAGE, ensure_image
from tests.e2e.vh import VhHome
from tests.emulators.ministack import REGION, Ministack

PASSWORD = "correct horse battery staple"
INIT = ("init", "--environment", "cpu", "--instance-type", "t3.medium", "--purchase", "spot", "--password-stdin")


@dataclass
class Deployed:
    """A stack, the address before it, and the machines it lights."""

    stack: Stack
    gateway: Gateway
    machines: Hypervisor
    parameters: dict[str, str]

    @property
    def outputs(self) -> dict[str, str]:
        return self.stack.outputs

    def api(self, username: str) -> Api:
        """As this user, who gets a token from the operator."""
        token = self.stack.lamplighter("token", "create", username, "--name", "stories").splitlines()[0]
        return Api(self.gateway.url, token)


@contextmanager
def _deployed(name: str, aws: Ministack, bridge: str, folder: Path) -> Iterator[Deployed]:
    """Deployed, begun, with machines that boot; the stack is deleted when the story is over, if it is still there."""
    stack = Stack(aws, name, folder)
    with Gateway(bridge, aws.url) as gateway:
        given = parameters(gateway.url)
        stack.deploy(**given)
        gateway.api_id = stack.resource("Api")
        outputs = stack.outputs
        ec2 = aws.client("ec2")
        template = json.loads(outputs["LaunchTemplates"])["cpu"]
        role = outputs["WorkerRole"]
        with Hypervisor(
            ec2, aws.client("sts"), user_data_of(ec2, template), role=role, region=REGION, images=[IMAGE]
        ) as machines:
            yield Deployed(stack, gateway, machines, given)


@pytest.fixture(scope="module")
def deployed(aws: Ministack, bridge: str, tmp_path_factory: pytest.TempPathFactory, tells: Any) -> Iterator[Deployed]:
    ensure_image()
    with _deployed("lamplighter", aws, bridge, tmp_path_factory.mktemp("stack")) as there:
        tells(there.machines.logs)
        tells(there.stack.logs)
        tells(lambda: "\n".join(there.gateway.refusals))
        there.stack.lamplighter(*INIT, stdin=f"{PASSWORD}\n")
        yield there


def test_a_run_of_an_unmodified_vh_lights_a_machine_and_puts_it_out(deployed: Deployed, tmp_path: Path) -> None:
    api = deployed.api("admin")
    vh = VhHome(api, tmp_path / "home").log_in()

    counter = vh.run("train", "--lr=0.5")
    execution = vh.ended(counter, seconds=60)

    assert execution["status"] == "complete"
