"""What an operator's alarms look at beside the report of a sweep: how much there is, not what was done."""

from __future__ import annotations

from dataclasses import dataclass

from lamplighter import keys
from lamplighter.domain.capacity import Pool
from lamplighter.intents import Intent
from lamplighter.records import find_many, walk
from lamplighter.world import World


@dataclass(frozen=True, slots=True)
class Gauges:
    """`outbox_seconds` is the age of the oldest promise that is not kept yet, 0 without one; `parked` counts those that were
    given up; `machines` those that are not gone, in all environments.
    """

    outbox_seconds: int
    parked: int
    machines: int


def read_gauges(*, world: World) -> Gauges:
    """As it is now. Raises what the metadata raises."""
    oldest = [row.key for partition in keys.OUTBOX if (row := next(walk(world.metadata, partition), None))]
    waiting = [
        (world.now() - stored.value.ctime).total_seconds() for stored in find_many(world.metadata, Intent, oldest)
    ]
    environments = [str(row.value["environment_id"]) for row in walk(world.metadata, keys.ENVIRONMENTS)]
    pools = find_many(world.metadata, Pool, [keys.capacity(environment_id) for environment_id in environments])
    return Gauges(
        outbox_seconds=int(max(waiting, default=0)),
        parked=sum(1 for _ in walk(world.metadata, keys.parked("-").partition)),
        machines=sum(stored.value.count for stored in pools),
    )
