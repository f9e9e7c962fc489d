"""A cloud of EC2 on its double, and orders of machines for it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from adapters.clouds.ec2 import Ec2Cloud
from lamplighter.errors import NotYet
from lamplighter.ports import LaunchRequest
from tests.doubles import START, SteppingClock
from tests.ec2_double import Ec2Double

TEMPLATES = {"cpu": "lt-0123456789abcdef0", "gpu": "lt-0123456789abcdef1"}
SUBNETS = ("subnet-a", "subnet-b")


def an_order(name: str = "one", gpu_spec: str = "", **options: Any) -> LaunchRequest:
    return LaunchRequest(
        launch_token=f"machine-{name}",
        machine_id=f"machine-{name}",
        installation="ours",
        environment="small",
        control_url="https://lamplighter.test",
        join_token="join-secret",
        options={"instance_types": ["c7g.large", "c6g.large"], **options},
        requested_at=START,
        gpu_spec=gpu_spec,
    )


def a_cloud(**world: Any) -> tuple[Ec2Cloud, Ec2Double, SteppingClock]:
    clock = SteppingClock()
    double = Ec2Double(clock, **world)
    return Ec2Cloud(TEMPLATES, SUBNETS, client=lambda: double), double, clock


def put_out(cloud: Ec2Cloud, machine_id: str) -> None:
    for _ in range(20):
        with suppress(NotYet):
            cloud.terminate(machine_id)
            return
    raise AssertionError("it does not end")
