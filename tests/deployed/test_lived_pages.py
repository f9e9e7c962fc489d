"""The pages for AWS are lived through: deployed, looked after and destroyed by the very commands that they tell."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.deployed.gateway import Gateway
from tests.deployed.hypervisor import Hypervisor, user_data_of
from tests.deployed.reader import Reader
from tests.deployed.stack import parameters
from tests.documented import DEPLOY, OPERATE, RUNBOOKS, Block, documented
from tests.e2e.image import ensure_image
from tests.e2e.server import CLIENTS
from tests.emulators.ministack import REGION, Ministack

NAME = "lamplighter"
WORKER_IMAGE = "lamplighter-worker-cpu-amd64-20260101000000"
LISTED = (
    *("_COMPLETE", "-Table-", "-databucket-", "-auditbucket-", "join-key", "-ApiFunction-", "-MachineMachine-"),
    *("-SweepSchedule-", "-StateChangeRule-", "-WorkerRole-", "-WorkerProfile-", "/sweep", "/aws/vendedlogs/"),
    *("-SweepSilent-", "-Topic-", "-CpuTemplate-", "vpc-", "ami-"),
)
"""What the proof that nothing is left must print while everything is there."""
TOLD_BY_PAGES = ("WorkerImageId", "DeletionProtection")
STEP_IMAGE = "public.ecr.aws/docker/library/python:3.11-slim"


@contextmanager
def _named(name: str) -> Iterator[None]:
    """An image of that name for machines: this machine's own, if it has one, or that of the tests."""
    known = subprocess.run(["docker", "image", "inspect", name], capture_output=True, timeout=60, check=False)
    if known.returncode == 0:
        yield
        return
    subprocess.run(["docker", "tag", ensure_image(), name], timeout=60, check=True)
    yield
    subprocess.run(["docker", "rmi", "--no-prune", name], capture_output=True, timeout=60, check=True)


def _leave_a_worker_image(aws: Ministack) -> None:
    """As Packer does."""
    tags = [
        {"Key": "lamplighter:image", "Value": "cpu"},
        {"Key": "lamplighter:architecture", "Value": "amd64"},
    ]
    aws.client("ec2").register_image(
        Name=WORKER_IMAGE,
        RootDeviceName="/dev/xvda",
        TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
    )


class Surroundings:
    """What the emulator lacks: an address for the API, and machines that boot. Both come once the stack has them."""

    def __init__(self, aws: Ministack, gateway: Gateway, parts: ExitStack) -> None:
        self._aws = aws
        self._gateway = gateway
        self._parts = parts
        self._machines: Hypervisor | None = None

    def follow(self) -> None:
        """Look at the stack as it is now. Repeatable; does nothing while there is none."""
        cloudformation = self._aws.client("cloudformation")
        try:
            (stack,) = cloudformation.describe_stacks(StackName=NAME)["Stacks"]
            api = cloudformation.describe_stack_resource(StackName=NAME, LogicalResourceId="Api")
        except ClientError:
            return
        self._gateway.api_id = api["StackResourceDetail"]["PhysicalResourceId"]
        outputs = {row["OutputKey"]: row["OutputValue"] for row in stack.get("Outputs", ())}
        template = json.loads(outputs.get("LaunchTemplates", "{}")).get("cpu")
        if template and self._machines is None:
            self._machines = self._parts.enter_context(self._boots(template, outputs["WorkerRole"]))

    def tell(self) -> str:
        return "\n".join([self._machines.logs() if self._machines else "", *self._gateway.refusals])

    def _boots(self, template: str, role: str) -> Hypervisor:
        ec2 = self._aws.client("ec2")
        user_data = user_data_of(ec2, template)
        return Hypervisor(ec2, self._aws.client("sts"), user_data, role=role, region=REGION, images=[STEP_IMAGE])


@pytest.fixture
def gateway(aws: Ministack, bridge: str) -> Iterator[Gateway]:
    with Gateway(bridge, aws.url) as started:
        yield started


@pytest.fixture
def surroundings(aws: Ministack, gateway: Gateway, tells: Any) -> Iterator[Surroundings]:
    _leave_a_worker_image(aws)
    with ExitStack() as parts:
        parts.enter_context(_named(STEP_IMAGE))
        made = Surroundings(aws, gateway, parts)
        tells(made.tell)
        yield made


@pytest.fixture
def reader(aws: Ministack, gateway: Gateway, tmp_path: Path) -> Reader:
    own = {k: v for k, v in parameters(gateway.url).items() if k not in TOLD_BY_PAGES}
    return Reader(aws, tmp_path, own, CLIENTS)


@pytest.mark.timeout(1500)
def test_an_installation_lives_by_the_commands_of_its_pages(reader: Reader, surroundings: Surroundings) -> None:
    for page in (DEPLOY, RUNBOOKS):
        _live_through(_tested(page), reader, surroundings)

    assert "hello from" in reader.said
    assert "This installation can run steps." in reader.said
    first, *others = _tested(OPERATE)
    _live_through([first], reader, surroundings)
    proof = next(block for block in others if block.prints_nothing)
    there = reader.paste(proof)
    assert [name for name in LISTED if name not in there] == []
    _live_through(others, reader, surroundings)


def _tested(page: str) -> list[Block]:
    return [block for block in documented(page) if block.is_tested]


def _live_through(blocks: list[Block], reader: Reader, surroundings: Surroundings) -> None:
    for block in blocks:
        printed = reader.paste(block)
        surroundings.follow()
        assert not (block.prints_nothing and printed.strip()), f"{block}:\n{printed}"
