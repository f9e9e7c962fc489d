"""No more machines than the installation may have, and none beyond the day's money, whoever asks at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.metadata.memory import MemoryMetadata
from lamplighter import keys
from lamplighter.domain.budget import Spending, cost_on, over_budget, spent_on
from lamplighter.domain.capacity import Pool
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import LamplighterError, LaunchRefused, NoCapacity, QuotaReached
from lamplighter.ports import Delete, Key, LaunchRequest, Record, Write
from lamplighter.records import find
from lamplighter.usecases import explain
from lamplighter.usecases.ensure_capacity import ensure_capacity
from lamplighter.usecases.environments import create_environment, update_environment
from lamplighter.usecases.fleet import environment_ids, machines_of, spent_today
from tests.doubles import START
from tests.life import Agent, Life

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Interleaved:
    """`Metadata` that lets somebody else act in full before the k-th read of a record or transaction."""

    def __init__(self, inner: MemoryMetadata) -> None:
        self._inner = inner
        self.left = 0
        self.act: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get(self, key: Key) -> Record | None:
        self._turn()
        return self._inner.get(key)

    def transact(self, writes: Sequence[Write]) -> None:
        self._turn()
        self._inner.transact(writes)

    def _turn(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


def a_life(max_machines: int = 0, budget: str | None = None, *, metadata: Any = None, **fields: Any) -> Life:
    """Two environments, "local" and "other"."""
    life = Life(metadata, **fields)
    bounds = {"max_machines": max_machines, "daily_budget_usd": Decimal(budget) if budget else None}
    life.world = replace(life.world, installation=replace(life.world.installation, **bounds))
    life.open(life.world.metadata)
    other = {"slug": "other", "name": "Yet another", "cloud": "local", "max_machines": 5}
    create_environment(life.principal, other, world=life.world)
    return life


def counted(life: Life) -> int:
    pool = find(life.world.metadata, Pool, keys.installation_capacity())
    return pool.value.count if pool else 0


def recounted(life: Life) -> int:
    return sum(len(machines_of(i, world=life.world)) for i in environment_ids(world=life.world))


# --- The cap ----------------------------------------------------------------------------------------------------------


def test_the_cap_of_the_installation_holds_over_all_environments_and_is_told():
    life = a_life(max_machines=2)
    life.submit()
    life.submit(environment="other")
    last = life.submit(environment="other")
    life.settle()
    agents = [Agent(life, m.request.machine_id) for m in life.cloud.inventory()]
    for agent in agents:
        agent.register()
        agent.claim()

    (reason, *_) = explain.explain(life.principal, last.id, world=life.world).reasons

    assert len(agents) == recounted(life) == counted(life) == 2
    assert reason.code == "installation_full"
    assert "all 2 machines that this installation may have are in use" in reason.text


def test_room_under_the_cap_is_used_again():
    life = a_life(max_machines=1)
    life.submit()
    life.submit(environment="other")
    life.settle()
    (first,) = life.cloud.inventory()

    life.cloud.lose(first.request.machine_id)
    life.sweep(seconds=5)
    life.sweep(seconds=5)

    assert counted(life) == recounted(life) == 1


@pytest.mark.parametrize("k", range(1, 16))
def test_the_cap_holds_when_two_environments_reserve_at_the_same_moment(k: int):
    metadata = Interleaved(MemoryMetadata())
    life = a_life(max_machines=3, metadata=metadata)
    for environment in ("local", "other") * 2:
        life.submit(environment=environment)
    local, other = environment_ids(world=life.world)
    metadata.left = k
    metadata.act = lambda: ensure_capacity(other, world=life.world)

    ensure_capacity(local, world=life.world)
    ensure_capacity(other, world=life.world)

    assert counted(life) == recounted(life) == 3


def test_an_installation_that_never_counted_starts_from_what_is_there():
    life = a_life()
    life.submit()
    life.settle()
    row = life.world.metadata.get(keys.installation_capacity())
    assert row
    life.world.metadata.transact([Delete(row.key, row.version)])

    life.submit(environment="other")
    life.settle()

    assert counted(life) == recounted(life) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3),
    st.lists(st.sampled_from(["local", "other", "settle", "lose", "refuse", "sweep", "later"]), max_size=25),
)
def test_the_count_is_the_recount_and_never_beyond_the_cap(cap: int, steps: list[str]):
    life = a_life(max_machines=cap)
    for step in steps:
        living = [m.request.machine_id for m in life.cloud.inventory() if not m.ended]
        if step in ("local", "other"):
            life.submit(environment=step)
        elif step == "lose" and living:
            life.cloud.lose(living[0])
        elif step == "refuse":
            life.cloud.refuse_capacity(1)
        elif step == "settle":
            life.settle()
        else:
            life.sweep(seconds=5 if step == "sweep" else 100)

        assert counted(life) == recounted(life)
        assert not cap or counted(life) <= cap


# --- Money ------------------------------------------------------------------------------------------------------------


def a_machine(price: str, asked: datetime, **more: Any) -> Machine:
    return Machine(
        id="m",
        organisation_id="o",
        environment_id="e",
        environment_slug="e",
        cloud="ec2",
        requested_at=asked,
        per_hour_price_usd=Decimal(price),
        **({"cloud_id": "i-1"} | more),
    )


@pytest.mark.parametrize(
    ("machine", "cost"),
    [
        (a_machine("1.5", NOON - timedelta(hours=2)), "3"),
        (a_machine("1.5", NOON - timedelta(days=3)), "18"),
        (a_machine("1", NOON - timedelta(hours=3), gone_at=NOON - timedelta(hours=2)), "1"),
        (a_machine("1", NOON - timedelta(days=2), gone_at=NOON - timedelta(days=1)), "0"),
        (a_machine("1", NOON + timedelta(hours=1)), "0"),
        (a_machine("1", NOON - timedelta(hours=3), cloud_id=""), "0"),
        (a_machine("0.1", NOON - timedelta(microseconds=1)), "0.000001"),
    ],
)
def test_a_machine_costs_its_hours_of_the_day(machine: Machine, cost: str):
    assert cost_on(NOON.date(), machine, NOON) == Decimal(cost)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10 * 86_400), st.integers(0, 10 * 86_400), st.decimals("0", "100", places=4))
def test_the_days_of_a_life_add_up_to_its_cost(begin: int, length: int, price: Decimal):
    asked = START + timedelta(seconds=begin)
    gone = asked + timedelta(seconds=length)
    machine = a_machine(str(price), asked, gone_at=gone)
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(40)]

    whole = sum(cost_on(day, machine, gone) for day in days)

    exact = price * length / 3600
    assert exact <= whole <= exact + Decimal("0.000040")


def test_the_day_is_spent_at_its_budget_and_until_midnight():
    living = [a_machine("2", NOON - timedelta(hours=1))]
    spent = spent_on(NOON.date(), Spending(Decimal("8")), living, NOON)

    hold = over_budget(Decimal("10"), spent, NOON + timedelta(minutes=30))

    assert hold
    assert hold.code == "budget_spent"
    assert hold.because == (
        "today's budget of $10 is spent ($10.00 since 00:00 UTC);"
        " machines are started again at 00:00 UTC, in 11 h 30 min"
    )
    assert over_budget(Decimal("10.01"), spent, NOON) is None


def test_no_machine_is_started_beyond_the_days_budget_and_the_next_day_goes_on():
    life = a_life(budget="5", per_hour_price_usd="10")
    life.submit()
    life.settle()
    (first,) = life.cloud.inventory()
    life.sweep()
    life.clock.advance(minutes=31)
    life.cloud.lose(first.request.machine_id)
    life.sweep()
    life.sweep(seconds=5)
    late = life.submit(environment="other")
    life.sweep(seconds=5)

    (reason, *_) = explain.explain(life.principal, late.id, world=life.world).reasons
    before = recounted(life)
    life.sweep(hours=14)

    assert spent_today(world=life.world) < 1
    assert (reason.code, before) == ("budget_spent", 0)
    assert "today's budget of $5 is spent ($5.1" in reason.text
    assert recounted(life) == 2


def test_a_price_that_changes_does_not_change_what_a_machine_costs():
    life = a_life(budget="100", per_hour_price_usd="1")
    life.submit()
    life.settle()
    update_environment(life.principal, "local", {"per_hour_price_usd": "90"}, world=life.world)

    life.clock.advance(hours=1)

    assert Decimal("1") <= spent_today(world=life.world) < Decimal("1.01")


# --- What a refusal means for the pool --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(NoCapacity("none left"), 1), (QuotaReached("raise it"), 600), (LaunchRefused("no such image"), 3600)],
)
def test_the_pool_pauses_as_long_as_the_refusal_calls_for(error: LamplighterError, seconds: int):
    life = a_life()
    asked = refuse(life, error)
    execution = life.submit()
    life.settle()
    life.sweep()

    pool = find(life.world.metadata, Pool, keys.capacity(life.environment().id))
    (reason, *_) = explain.explain(life.principal, execution.id, world=life.world).reasons
    first = len(asked)
    life.sweep(seconds=seconds * 0.9)
    early = len(asked)
    life.sweep(seconds=seconds * 0.2)

    assert pool
    assert pool.value.last_code == error.code
    assert str(error) in reason.text
    assert (first, early, len(asked)) == (1, 1, 2)


def test_a_corrected_environment_ends_the_pause_after_a_refusal_at_once():
    life = a_life()
    asked = refuse(life, LaunchRefused("no such image"))
    execution = life.submit()
    life.settle()
    (reason, *_) = explain.explain(life.principal, execution.id, world=life.world).reasons

    update_environment(life.principal, "local", {"description": "corrected"}, world=life.world)
    life.settle()

    assert "or as soon as the environment is corrected" in reason.text
    assert len(asked) == 2


def refuse(life: Life, error: LamplighterError) -> list[LaunchRequest]:
    """From now on every launch is refused; the list grows with what was asked."""
    asked: list[LaunchRequest] = []

    def launch(request: LaunchRequest) -> None:
        asked.append(request)
        raise error

    life.cloud.launch = launch
    return asked


def test_the_gpu_and_the_price_of_a_machine_are_its_environments_at_the_time_of_the_request():
    life = a_life(gpu_spec="1x T4", per_hour_price_usd="0.5")
    life.submit()
    life.settle()

    (machine,) = life.machines()
    (launched,) = life.cloud.inventory()

    assert (machine.gpu_spec, machine.per_hour_price_usd) == ("1x T4", Decimal("0.5"))
    assert (launched.request.gpu_spec, launched.request.requested_at) == ("1x T4", machine.requested_at)
    assert machine.state is MachineState.REQUESTED
