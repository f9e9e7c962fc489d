"""What EC2 does with calls that come again or too fast: hidden machines, second bodies, deaths between any two calls, pace."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from adapters.clouds.ec2 import Ec2Cloud
from adapters.clouds.ec2_pacing import RATES, Pace
from lamplighter.errors import Throttled
from tests.conformance.ec2_orders import SUBNETS, TEMPLATES, a_cloud, an_order, put_out
from tests.doubles import SteppingClock
from tests.ec2_double import Ec2Double, FaultyClient
from tests.faults import FaultPlan, Scenario, enumerate_faults

# --- Repetition -------------------------------------------------------------------------------------------------------


def test_a_repeated_launch_finds_its_machine_while_ec2_hides_it():
    cloud, double, _ = a_cloud(hidden_for=timedelta(minutes=1))

    ids = {cloud.launch(an_order()).cloud_id for _ in range(5)}

    assert len(ids) == len(double.living()) == 1


def test_a_second_body_of_one_machine_is_shown_as_an_orphan_and_can_be_ended_alone():
    cloud, double, clock = a_cloud(hidden_for=timedelta(minutes=1), replays_refusals=False)
    double.without = {("*", "*", "spot")}
    order = an_order(purchase="spot_then_on_demand")
    first = cloud.launch(order)
    double.without = set()
    clock.advance(milliseconds=1)
    second = cloud.launch(order)
    clock.advance(minutes=1)
    assert first.cloud_id != second.cloud_id

    described = cloud.describe("ours")
    put_out(cloud, second.cloud_id)

    assert [(m.machine_id, m.cloud_id) for m in described] == [
        ("machine-one", first.cloud_id),
        (second.cloud_id, second.cloud_id),
    ]
    assert [i.id for i in double.living()] == [first.cloud_id]


def test_the_end_of_a_machine_is_the_end_of_all_its_bodies():
    cloud, double, clock = a_cloud(hidden_for=timedelta(minutes=1), replays_refusals=False)
    double.without = {("*", "*", "spot")}
    order = an_order(purchase="spot_then_on_demand")
    cloud.launch(order)
    double.without = set()
    cloud.launch(order)
    clock.advance(minutes=1)

    put_out(cloud, "machine-one")

    assert double.living() == []


def test_an_instance_without_our_tags_is_not_ended_even_by_its_own_id():
    cloud, double, _ = a_cloud()
    launched = cloud.launch(an_order())
    double.instances[launched.cloud_id].tags = {"Name": "somebody else's"}

    cloud.terminate(launched.cloud_id)

    assert len(double.living()) == 1


@pytest.mark.parametrize("purchase", ["spot", "on_demand", "spot_then_on_demand"])
@pytest.mark.parametrize("spot_gone", [True, False])
@pytest.mark.parametrize("hidden_seconds", [0, 60])
def test_a_launch_that_dies_between_any_two_calls_gives_one_machine(
    purchase: str, spot_gone: bool, hidden_seconds: int
):
    def world(plan: FaultPlan) -> tuple[Ec2Cloud, Ec2Double]:
        double = Ec2Double(SteppingClock(), hidden_for=timedelta(seconds=hidden_seconds))
        double.without = {("*", "*", "spot")} if spot_gone and purchase != "spot" else set()
        client = FaultyClient(double, plan)
        return Ec2Cloud(TEMPLATES, SUBNETS, client=lambda: client), double

    def check(made: tuple[Ec2Cloud, Ec2Double]) -> None:
        assert len(made[1].living("machine-one")) == 1

    scenario = Scenario(world=world, act=lambda made: made[0].launch(an_order(purchase=purchase)))
    done = enumerate_faults(scenario, check, pairs=True)

    assert done.effects == (3 if spot_gone and purchase == "spot_then_on_demand" else 2)


# --- Pace -------------------------------------------------------------------------------------------------------------


class Watch:
    """Seconds that pass only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("call", RATES)
def test_calls_keep_the_pace_of_their_kind(call: Any):
    watch = Watch()
    pace = Pace(watch, watch.sleep)
    burst, per_second = RATES[call]

    for _ in range(int(burst)):
        pace.wait(call)
    at_once = watch.now
    for _ in range(10):
        pace.wait(call)

    assert at_once == 0
    assert watch.now == pytest.approx(10 / per_second)


def test_a_caller_whose_turn_is_far_away_is_told_so_at_once():
    watch = Watch()
    pace = Pace(watch, lambda _: None)

    for _ in range(9):
        pace.wait("launch")

    with pytest.raises(Throttled, match="pace of 2 launch"):
        pace.wait("launch")

    pace.wait("terminate")
    watch.now += 60
    pace.wait("launch")
