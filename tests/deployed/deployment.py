"""A stack with everything around it that the emulator lacks: an address, and machines that boot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deployed.gateway import Gateway
from tests.deployed.hypervisor import Hypervisor, user_data_of
from tests.deployed.stack import Stack, parameters
from tests.e2e.api import Api
from tests.e2e.image import IMAGE, ensure_image
from tests.emulators.ministack import REGION, Ministack

PASSWORD = "correct horse battery staple"
ENVIRONMENT = ("--environment", "cpu", "--instance-type", "t3.medium", "--purchase", "spot")


@dataclass
class Deployment:
    """A stack, the address before it, and the machines it lights."""

    stack: Stack
    gateway: Gateway
    machines: Hypervisor
    parameters: dict[str, str]

    def begin(self) -> None:
        """What the operator does once: the administrator and the first environment, which is idle for a few seconds only."""
        self.stack.lamplighter("init", *ENVIRONMENT, "--password-stdin", stdin=f"{PASSWORD}\n")
        self.stack.lamplighter("environment", "set", "cpu", "idle_seconds=3")

    def api(self, username: str = "admin") -> Api:
        """As this user, with a token that the operator has made."""
        token = self.stack.lamplighter("token", "create", username, "--name", "stories").splitlines()[0]
        return Api(self.gateway.url, token)

    def announce(self, kind: str, instance: str, detail: Mapping[str, str]) -> None:
        """What EventBridge would tell of an instance: the emulator takes no events in the name of a service of AWS."""
        event = {"source": "aws.ec2", "detail-type": kind, "detail": {"instance-id": instance, **detail}}
        function = self.stack.resource("EventsFunction")
        answer = self.stack.aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()

    def tell(self) -> str:
        """What everybody has said, for a story that fails."""
        return "\n".join([self.machines.logs(), self.stack.logs(), *self.gateway.refusals])

    def alive(self) -> list[str]:
        """The instances that EC2 would bill now."""
        pages = self.stack.aws.client("ec2").get_paginator("describe_instances").paginate()
        found: list[dict[str, Any]] = [
            m for page in pages for group in page["Reservations"] for m in group["Instances"]
        ]
        return [m["InstanceId"] for m in found if m["State"]["Name"] not in ("shutting-down", "terminated")]


@contextmanager
def deployed(name: str, aws: Ministack, bridge: str, folder: Path) -> Iterator[Deployment]:
    """Deployed by sam, not begun. The stack is left to the story, which may delete it."""
    ensure_image()
    stack = Stack(aws, name, folder)
    with Gateway(bridge, aws.url) as gateway:
        given = parameters(gateway.url)
        stack.deploy(**given)
        gateway.api_id = stack.resource("Api")
        outputs, ec2 = stack.outputs, aws.client("ec2")
        user_data = user_data_of(ec2, json.loads(outputs["LaunchTemplates"])["cpu"])
        machines = Hypervisor(
            ec2, aws.client("sts"), user_data, role=outputs["WorkerRole"], region=REGION, images=[IMAGE]
        )
        with machines:
            yield Deployment(stack, gateway, machines, given)
