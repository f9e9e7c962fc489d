"""The launcher dies before and after each call to EC2, whatever EC2 hides meanwhile: one machine id never keeps two instances."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from adapters.clouds.ec2 import Ec2Cloud
from adapters.metadata.memory import MemoryMetadata
from lamplighter import keys
from lamplighter.domain.capacity import Pool
from lamplighter.records import need
from tests.doubles import SteppingClock
from tests.ec2_double import Ec2Double, FaultyClient
from tests.faults import FaultPlan, Scenario, enumerate_faults
from tests.life import Life

TEMPLATES = {"cpu": "lt-0123456789abcdef0"}


class OnEc2:
    """A control plane whose machines are EC2's. Spot capacity, if there is none at first, comes back after the first try."""

    def __init__(self, plan: FaultPlan, purchase: str, *, spot_at_first: bool, replays: bool) -> None:
        self.clock = SteppingClock()
        self.double = Ec2Double(self.clock, hidden_for=timedelta(minutes=1), replays_refusals=replays, seed=7)
        if not spot_at_first:
            self.double.without = {("*", "*", "spot")}
        client = FaultyClient(self.double, plan)
        self.metadata = MemoryMetadata()
        options = {"instance_types": ["c7g.large"], "purchase": purchase}
        cloud = Ec2Cloud(TEMPLATES, ["subnet-a"], client=lambda: client, sleep=lambda _: None)
        self.life = Life(self.metadata, cloud, clock=self.clock, max_machines=1, options=options)
        self.life.submit()

    def launch(self) -> None:
        self.life.settle()

    def sweep_until_quiet(self) -> None:
        """A new process takes over, at first while EC2 still hides what was launched; then a quarter of an hour goes by."""
        self.double.without = set()
        self.life.open(self.metadata)
        for _ in range(3):
            self.life.sweep(seconds=2)
        for _ in range(14):
            self.life.sweep(minutes=1)


def check(world: OnEc2) -> None:
    bodies = Counter(i.tags["lamplighter:machine"] for i in world.double.living())
    named = {m.id: m.cloud_id for m in world.life.machines()}
    pool = need(world.metadata, Pool, keys.capacity(world.life.environment().id), "it").value
    assert sum(bodies.values()) == pool.count == 1
    assert {i.tags["lamplighter:machine"]: i.id for i in world.double.living()} == named


@pytest.mark.parametrize("replays", [True, False])
@pytest.mark.parametrize(
    ("purchase", "spot_at_first"), [("spot", True), ("on_demand", True), ("spot_then_on_demand", False)]
)
def test_a_launcher_may_die_at_any_call(purchase: str, spot_at_first: bool, replays: bool):
    scenario: Scenario[OnEc2] = Scenario(
        world=lambda plan: OnEc2(plan, purchase, spot_at_first=spot_at_first, replays=replays),
        act=lambda world: world.launch(),
        redeliver=lambda world: world.sweep_until_quiet(),
    )
    bodies: set[int] = set()

    def check_and_count(world: OnEc2) -> None:
        check(world)
        bodies.add(len(world.double.instances))

    done = enumerate_faults(scenario, check_and_count)

    # The one way to a second body is open only here, and was walked.
    assert bodies == ({1, 2} if purchase == "spot_then_on_demand" and not replays else {1})
    assert done.effects == (3 if purchase == "spot_then_on_demand" else 2)
    assert done.schedules == 5 * done.effects
