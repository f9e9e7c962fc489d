"""What EC2 does beyond the promises of the port: purchase options, quotas, refusals, machines that others end."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from adapters.clouds.ec2 import Ec2Cloud
from adapters.clouds.ec2_answers import fleet_refusal
from lamplighter.errors import (
    LamplighterError,
    LaunchRefused,
    NoCapacity,
    NotYet,
    QuotaReached,
    Throttled,
    Unavailable,
)
from lamplighter.ports import LaunchRequest
from tests.conformance.ec2_orders import SUBNETS, TEMPLATES, a_cloud, an_order
from tests.ec2_double import Ec2Double

# --- What is asked for ------------------------------------------------------------------------------------------------


def test_one_request_offers_every_type_in_every_subnet_and_tags_what_it_gets():
    cloud, double, _ = a_cloud()

    launched = cloud.launch(an_order(max_price_usd_per_hour="0.05", image_id="ami-0123456789abcdef0"))

    (request,) = double.requests("CreateFleet")
    (configuration,) = request["LaunchTemplateConfigs"]
    offers = {(o["InstanceType"], o["SubnetId"], o["MaxPrice"], o["ImageId"]) for o in configuration["Overrides"]}
    assert configuration["LaunchTemplateSpecification"]["LaunchTemplateId"] == TEMPLATES["cpu"]
    assert offers == {
        (t, s, "0.05", "ami-0123456789abcdef0") for t in ("c7g.large", "c6g.large") for s in ("subnet-a", "subnet-b")
    }
    assert request["SpotOptions"] == {"AllocationStrategy": "price-capacity-optimized"}
    assert double.instances[launched.cloud_id].tags == {
        "Name": "lamplighter small",
        "lamplighter:installation": "ours",
        "lamplighter:machine": "machine-one",
        "lamplighter:environment": "small",
        "lamplighter:launch": "machine-one",
        "lamplighter:die-by": "2026-01-12T10:00:00Z",
    }


def test_nothing_that_is_secret_or_differs_between_machines_is_sent():
    cloud, double, _ = a_cloud()

    cloud.launch(an_order())

    assert "join-secret" not in repr(double.requests("CreateFleet"))
    assert "UserData" not in repr(double.requests("CreateFleet"))


@pytest.mark.parametrize(
    ("order", "template"),
    [
        (an_order(), "cpu"),
        (an_order(gpu_spec="1x T4"), "gpu"),
        (an_order(gpu_spec="1x T4", launch_template="cpu"), "cpu"),
        (an_order(launch_template="gpu"), "gpu"),
    ],
)
def test_an_environment_with_a_gpu_starts_from_the_gpu_template_unless_it_says_otherwise(
    order: LaunchRequest, template: str
):
    cloud, double, _ = a_cloud()

    cloud.launch(order)

    (request,) = double.requests("CreateFleet")
    specification = request["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]
    assert specification["LaunchTemplateId"] == TEMPLATES[template]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance_types", []),
        ("instance_types", "c7g.large"),
        ("instance_types", ["C7G.LARGE"]),
        ("instance_types", ["c7g.large"] * 21),
        ("launch_template", "tpu"),
        ("purchase", "reserved"),
        ("purchase", ["spot"]),
        ("subnets", []),
        ("subnets", ["subnet-elsewhere"]),
        ("image_id", "ubuntu"),
        ("image_id", 5),
        ("max_price_usd_per_hour", "cheap"),
        ("max_price_usd_per_hour", "NaN"),
        ("max_price_usd_per_hour", -1),
        ("max_price_usd_per_hour", True),
        ("max_life_hours", 0),
        ("max_life_hours", "7"),
        ("instance_type", "c7g.large"),
    ],
)
def test_an_option_that_is_not_right_is_named_and_nothing_is_asked_of_ec2(name: str, value: Any):
    cloud, double, _ = a_cloud()

    with pytest.raises(LaunchRefused, match=rf"option {name} "):
        cloud.launch(an_order(**{name: value}))

    assert double.requests("CreateFleet") == []


def test_an_environment_without_instance_types_is_refused():
    cloud, _, _ = a_cloud()
    order = an_order()

    with pytest.raises(LaunchRefused, match="option instance_types "):
        cloud.launch(LaunchRequest(**{f: getattr(order, f) for f in order.__slots__} | {"options": {}}))


def test_nothing_of_the_sdk_is_loaded_before_the_first_call():
    script = (
        "import sys; from adapters.clouds.ec2 import Ec2Cloud; Ec2Cloud({}, []); sys.exit('botocore' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- What is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InsufficientInstanceCapacity", 400, NoCapacity),
        ("InsufficientHostCapacity", 400, NoCapacity),
        ("SpotMaxPriceTooLow", 400, NoCapacity),
        ("MaxSpotInstanceCountExceeded", 400, QuotaReached),
        ("VcpuLimitExceeded", 400, QuotaReached),
        ("InstanceLimitExceeded", 400, QuotaReached),
        ("Unsupported", 400, LaunchRefused),
        ("InvalidParameterValue", 400, LaunchRefused),
        ("InvalidLaunchTemplateId.NotFound", 400, LaunchRefused),
        ("UnauthorizedOperation", 403, LaunchRefused),
        ("RequestLimitExceeded", 503, Throttled),
        ("Throttling", 400, Throttled),
        ("InternalError", 500, Unavailable),
        ("SomethingNew", 503, Unavailable),
        ("ExpiredToken", 400, Unavailable),
    ],
)
def test_each_refusal_says_what_to_do_next(code: str, status: int, kind: type[LamplighterError]):
    cloud, double, _ = a_cloud()
    double.fail("CreateFleet", code, status=status)

    with pytest.raises(LamplighterError, match=code) as caught:
        cloud.launch(an_order())

    assert type(caught.value) is kind


@pytest.mark.parametrize("call", ["DescribeInstances", "TerminateInstances"])
@pytest.mark.parametrize(
    ("code", "kind"), [("UnauthorizedOperation", Unavailable), ("RequestLimitExceeded", Throttled)]
)
def test_a_refusal_of_other_calls_is_never_taken_for_an_answer(call: str, code: str, kind: type[LamplighterError]):
    cloud, double, _ = a_cloud()
    cloud.launch(an_order())
    double.fail(call, code)

    with pytest.raises(LamplighterError, match=code) as caught:
        cloud.terminate("machine-one")

    assert type(caught.value) is kind
    assert len(double.living()) == 1


def test_a_description_is_whole_or_an_error():
    cloud, double, _ = a_cloud(page=2)
    for name in "abcde":
        cloud.launch(an_order(name))
    whole = cloud.describe("ours")

    client = Failing(double, on_page=2)
    broken = Ec2Cloud(TEMPLATES, SUBNETS, client=lambda: client)

    assert [m.machine_id for m in whole] == [f"machine-{n}" for n in "abcde"]
    with pytest.raises(Unavailable):
        broken.describe("ours")


class Failing:
    def __init__(self, double: Ec2Double, on_page: int) -> None:
        self.double, self.left = double, on_page

    def describe_instances(self, **request: Any) -> Any:
        self.left -= 1
        if not self.left:
            self.double.fail("DescribeInstances", "InternalError", status=500)
        return self.double.describe_instances(**request)


def test_a_machine_that_shuts_down_is_lost_to_its_work_and_ended_only_when_it_is_terminated():
    cloud, double, clock = a_cloud(dies_in=timedelta(minutes=3))
    launched = cloud.launch(an_order())
    double.reclaim(launched.cloud_id)

    (seen,) = cloud.describe("ours")

    assert seen.state == "gone"
    assert "spot interruption" in seen.detail
    with pytest.raises(NotYet):
        cloud.terminate("machine-one")
    assert double.requests("TerminateInstances") == []
    clock.advance(minutes=3)
    cloud.terminate("machine-one")


def test_a_machine_that_somebody_stopped_is_shown_as_stopped_and_can_be_ended():
    cloud, double, _ = a_cloud()
    launched = cloud.launch(an_order())
    double.stop(launched.cloud_id)

    (seen,) = cloud.describe("ours")
    with pytest.raises(NotYet):
        cloud.terminate("machine-one")

    assert (seen.machine_id, seen.state) == ("machine-one", "stopped")
    assert "User initiated shutdown" in seen.detail
    cloud.terminate("machine-one")
    assert double.living() == []


def test_a_deaf_machine_is_asked_again_until_it_ends():
    cloud, double, _ = a_cloud()
    launched = cloud.launch(an_order())
    double.ignore_terminate(launched.cloud_id, 2)

    for _ in range(3):
        with pytest.raises(NotYet):
            cloud.terminate("machine-one")

    cloud.terminate("machine-one")
    assert double.living() == []


def test_a_wildcard_in_an_id_means_itself():
    cloud, double, _ = a_cloud()
    cloud.launch(an_order())

    cloud.terminate("machine-*")

    assert len(double.living()) == 1


# --- Spot, on demand, quotas ------------------------------------------------------------------------------------------


def test_the_second_purchase_option_is_asked_when_the_first_has_nothing():
    cloud, double, _ = a_cloud(without={("*", "*", "spot")})

    launched = cloud.launch(an_order(purchase="spot_then_on_demand", max_price_usd_per_hour=1))

    second = double.requests("CreateFleet")[1]
    assert double.instances[launched.cloud_id].lifecycle == "on-demand"
    assert second["OnDemandOptions"] == {"AllocationStrategy": "lowest-price", "MaxTotalPrice": "1"}
    assert "MaxPrice" not in repr(second)


def test_a_zone_without_capacity_is_passed_over():
    cloud, double, _ = a_cloud(without={("*", "subnet-a", "spot"), ("c7g.large", "*", "spot")})

    launched = cloud.launch(an_order())

    instance = double.instances[launched.cloud_id]
    assert (instance.type, instance.subnet) == ("c6g.large", "subnet-b")


@pytest.mark.parametrize("purchase", ["spot", "on_demand", "spot_then_on_demand"])
def test_no_capacity_anywhere_is_told_with_offers(purchase: str):
    cloud, _, _ = a_cloud(without={("*", "*", "*")})

    with pytest.raises(NoCapacity, match=r"InsufficientInstanceCapacity \(c7g.large subnet-a\)") as caught:
        cloud.launch(an_order(purchase=purchase))

    assert type(caught.value) is NoCapacity


@pytest.mark.parametrize(
    ("types", "purchase", "quota"),
    [
        (["c7g.large"], "spot", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
        (["g4dn.xlarge"], "spot", "All G and VT Spot Instance Requests"),
        (["vt1.3xlarge"], "on_demand", "Running On-Demand G and VT instances"),
        (["p4d.24xlarge"], "on_demand", "Running On-Demand P instances"),
        (["trn1.2xlarge"], "spot", "All Trn Spot Instance Requests"),
    ],
)
def test_a_reached_quota_is_named(types: list[str], purchase: str, quota: str):
    cloud, _, _ = a_cloud(quota={"spot": 0, "on-demand": 0})

    with pytest.raises(QuotaReached) as caught:
        cloud.launch(an_order(instance_types=types, purchase=purchase))

    assert f'Raise the quota "{quota}"' in str(caught.value)


def test_a_quota_beside_missing_capacity_is_missing_capacity():
    cloud, _, _ = a_cloud(quota={"spot": 0}, without={("*", "*", "on-demand")})

    with pytest.raises(NoCapacity) as caught:
        cloud.launch(an_order(purchase="spot_then_on_demand"))

    assert type(caught.value) is NoCapacity


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError"])
def test_a_fault_within_an_answered_fleet_spends_its_token_and_the_next_purchase_is_asked(code: str):
    cloud, double, _ = a_cloud(without={("*", "*", "spot")}, stumbles={"c6g.large": code})

    launched = cloud.launch(an_order(purchase="spot_then_on_demand"))

    assert double.instances[launched.cloud_id].lifecycle == "on-demand"


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError"])
def test_a_fault_beside_missing_capacity_is_missing_capacity_that_names_both(code: str):
    cloud, double, _ = a_cloud(without={("*", "*", "*")}, stumbles={"c6g.large": code})

    with pytest.raises(LamplighterError) as caught:
        cloud.launch(an_order(purchase="spot"))

    assert type(caught.value) is NoCapacity
    assert "InsufficientInstanceCapacity (c7g.large subnet-a)" in str(caught.value)
    assert f"{code} (c6g.large subnet-a)" in str(caught.value)
    assert len(double.requests("CreateFleet")) == 1


def test_a_type_that_a_region_does_not_have_is_refused_only_if_no_other_can_be_had():
    cloud, double, _ = a_cloud(unsupported={"c7g.large", "c6g.large"})

    with pytest.raises(LaunchRefused, match="Unsupported"):
        cloud.launch(an_order())

    launched = cloud.launch(an_order("two", instance_types=["c7g.large", "m7g.large"]))
    assert double.instances[launched.cloud_id].type == "m7g.large"


def test_an_empty_answer_without_reasons_is_missing_capacity():
    assert type(fleet_refusal([], "spot")) is NoCapacity
