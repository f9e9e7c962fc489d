"""What every cloud promises: a token is one machine, gone is gone, and nobody else's machines are touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from moto import mock_aws

from adapters.clouds.ec2 import Ec2Cloud
from adapters.clouds.memory import MemoryCloud
from lamplighter.errors import LaunchRefused, NoCapacity, NotYet
from lamplighter.ports import Cloud, CloudMachine, LaunchRequest
from tests.conformance.cloud_places import a_request, put_out, seen, state, until
from tests.ec2_double import Ec2Double


class ManualClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


class Fitted(Ec2Cloud):
    """EC2 for the orders of this suite, whose options are those of a local machine."""

    def launch(self, request: LaunchRequest) -> CloudMachine:
        return super().launch(replace(request, options={"instance_types": ["t3.small"]}))


def on_the_double() -> Cloud:
    double = Ec2Double(ManualClock())
    return Fitted({"cpu": "lt-0123456789abcdef0"}, ["subnet-1"], client=lambda: double)


@pytest.fixture
def moto() -> Iterator[Cloud]:
    """moto keeps no client token, so that only the tag tells a repeated launch: what rests on tokens is proven on the double."""
    with mock_aws():
        client = boto3.client("ec2", "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
        image = client.describe_images()["Images"][0]["ImageId"]
        data = {"ImageId": image, "InstanceType": "t3.small"}
        template = client.create_launch_template(LaunchTemplateName="cpu", LaunchTemplateData=data)["LaunchTemplate"]
        subnet = client.describe_subnets()["Subnets"][0]["SubnetId"]
        yield Fitted({"cpu": template["LaunchTemplateId"]}, [subnet], client=lambda: client)


def the_cloud(name: str, request: pytest.FixtureRequest) -> Cloud:
    if name == "ec2":
        return on_the_double()
    if name == "ec2 on moto":
        return request.getfixturevalue("moto")  # type: ignore[no-any-return]
    return request.getfixturevalue("make_local")() if name == "local" else MemoryCloud(ManualClock())


@pytest.fixture(params=["local", "memory", "ec2", "ec2 on moto"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return the_cloud(request.param, request)


@pytest.fixture(params=["local", "memory", "ec2"])
def cloud_that_keeps_tokens(request: pytest.FixtureRequest) -> Cloud:
    return the_cloud(request.param, request)


def test_a_launched_machine_runs_and_is_described(cloud: Cloud) -> None:
    launched = cloud.launch(a_request())

    assert launched.machine_id == "machine-one"
    assert launched.state in ("starting", "running")
    until(lambda: state(cloud, "machine-one") == "running")
    assert seen(cloud, "machine-one").cloud_id == launched.cloud_id  # type: ignore[union-attr]


def test_the_same_token_is_the_same_machine_however_often_it_is_sent(cloud: Cloud) -> None:
    first = cloud.launch(a_request())

    again = [cloud.launch(a_request()) for _ in range(5)]

    assert {m.cloud_id for m in again} == {first.cloud_id}
    assert len(cloud.describe("ours")) == 1


def test_a_token_of_another_machine_is_refused(cloud_that_keeps_tokens: Cloud) -> None:
    cloud_that_keeps_tokens.launch(a_request())

    with pytest.raises(LaunchRefused):
        cloud_that_keeps_tokens.launch(a_request(machine_id="machine-two"))
    assert len(cloud_that_keeps_tokens.describe("ours")) == 1


def test_a_machine_of_another_token_is_refused(cloud: Cloud) -> None:
    cloud.launch(a_request())

    with pytest.raises(LaunchRefused):
        cloud.launch(a_request(launch_token="another"))
    assert len(cloud.describe("ours")) == 1


def test_a_terminated_machine_is_gone_and_its_token_stays_so(cloud: Cloud) -> None:
    cloud.launch(a_request())

    put_out(cloud, "machine-one")

    assert state(cloud, "machine-one") in ("gone", None)
    assert cloud.launch(a_request()).state == "gone"
    assert state(cloud, "machine-one") in ("gone", None)


def test_ending_what_is_gone_or_never_was_is_no_error(cloud: Cloud) -> None:
    cloud.launch(a_request())
    put_out(cloud, "machine-one")

    cloud.terminate("machine-one")
    cloud.terminate("never-was")
    cloud.terminate("../machines/machine-one")


def test_installations_see_only_their_own_machines(cloud: Cloud) -> None:
    cloud.launch(a_request())
    cloud.launch(a_request("two", installation="theirs"))

    put_out(cloud, "machine-one")

    until(lambda: seen(cloud, "machine-two", "theirs").state == "running")  # type: ignore[union-attr]
    assert [m.machine_id for m in cloud.describe("theirs")] == ["machine-two"]
    assert cloud.describe("nobody") == ()


def test_machines_are_many(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.launch(a_request(name))

    put_out(cloud, "machine-b")

    until(lambda: [state(cloud, f"machine-{n}") for n in "ac"] == ["running", "running"])
    assert state(cloud, "machine-b") in ("gone", None)


# --- What the strict double can be told to do -------------------------------------------------------------------------


def test_memory_hides_new_machines_for_a_while() -> None:
    clock = ManualClock()
    cloud = MemoryCloud(clock)
    cloud.hidden_for, cloud.boot_time = timedelta(seconds=5), timedelta(seconds=8)

    assert cloud.launch(a_request()).state == "starting"

    assert cloud.describe("ours") == ()
    assert len(cloud.inventory()) == 1
    clock.advance(seconds=5)
    assert state(cloud, "machine-one") == "starting"
    clock.advance(seconds=3)
    assert state(cloud, "machine-one") == "running"


def test_memory_refuses_capacity_and_keeps_nothing_of_the_request() -> None:
    cloud = MemoryCloud(ManualClock())
    cloud.refuse_capacity(1)

    with pytest.raises(NoCapacity):
        cloud.launch(a_request())

    assert cloud.inventory() == ()
    assert cloud.launch(a_request()).state == "running"


def test_memory_loses_machines_and_forgets_them_later() -> None:
    clock = ManualClock()
    cloud = MemoryCloud(clock)
    cloud.launch(a_request())

    cloud.lose("machine-one", "spot interruption")

    assert seen(cloud, "machine-one") == CloudMachine("machine-one", "memory:machine-one", "gone", "spot interruption")
    clock.advance(hours=2)
    assert cloud.describe("ours") == ()
    assert cloud.launch(a_request()).state == "gone"


def test_memory_is_deaf_to_terminate_as_often_as_told() -> None:
    cloud = MemoryCloud(ManualClock())
    cloud.launch(a_request())
    cloud.ignore_terminate("machine-one", 2)

    for _ in range(2):
        with pytest.raises(NotYet):
            cloud.terminate("machine-one")

    cloud.terminate("machine-one")
    assert state(cloud, "machine-one") == "gone"


def test_memory_marks_machines_that_never_register() -> None:
    cloud = MemoryCloud(ManualClock())
    cloud.silence(1)

    cloud.launch(a_request("a"))
    cloud.launch(a_request("b"))

    assert [m.silent for m in cloud.inventory()] == [True, False]
