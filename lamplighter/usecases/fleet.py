"""The machines of all environments together: how many there are, and what they have cost today."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from lamplighter import keys
from lamplighter.domain.budget import Spending, cost_on, spent_on
from lamplighter.domain.capacity import Pool
from lamplighter.domain.machines import Machine
from lamplighter.ports import ABSENT, Write
from lamplighter.records import Stored, find, find_many, walk
from lamplighter.world import World


def installation_pool(*, world: World) -> Stored[Pool]:
    """The count over all environments. Where nobody has counted yet, the sum of theirs, which is right if it can be written."""
    stored = find(world.metadata, Pool, keys.installation_capacity())
    if stored:
        return stored
    rows = [keys.capacity(i) for i in environment_ids(world=world)]
    count = sum(pool.value.count for pool in find_many(world.metadata, Pool, rows))
    return Stored(keys.installation_capacity(), ABSENT, Pool(count=count))


def environment_ids(*, world: World) -> list[str]:
    """Of every environment there is."""
    return [str(row.value["environment_id"]) for row in walk(world.metadata, keys.ENVIRONMENTS)]


def machines_of(environment_id: str, *, world: World) -> list[Machine]:
    """Those that are not gone."""
    ids = [r.key.sort for r in walk(world.metadata, keys.machines(environment_id))]
    return [s.value for s in find_many(world.metadata, Machine, [keys.machine(i) for i in ids])]


def settled_cost(machine: Machine, now: datetime, *, world: World) -> list[Write]:
    """The write that adds what this machine, which has just ended, has cost today."""
    day = now.astimezone(UTC).date()
    cost = cost_on(day, machine, now)
    if not cost:
        return []
    stored = _spending(day.isoformat(), world)
    return [stored.becomes(stored.value.plus(cost))]


def spent_today(*, world: World) -> Decimal:
    """USD since midnight UTC, over all environments, as far as their prices are told."""
    now = world.now()
    day = now.astimezone(UTC).date()
    living = [m for i in environment_ids(world=world) for m in machines_of(i, world=world)]
    return spent_on(day, _spending(day.isoformat(), world).value, living, now)


def _spending(day: str, world: World) -> Stored[Spending]:
    found = find(world.metadata, Spending, keys.spending(day))
    return found or Stored(keys.spending(day), ABSENT, Spending())
