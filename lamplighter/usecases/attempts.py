"""What an execution's attempts have stored: the outputs of the newest one, and what it was given of the earlier ones."""

from __future__ import annotations

from lamplighter import keys
from lamplighter.domain.data import Datum
from lamplighter.domain.executions import Execution, ExecutionInput
from lamplighter.records import find_many, walk
from lamplighter.world import World

RESTART = "_restart"
"""The input under which users of `autorestart` look for what the earlier attempts have stored."""


def outputs_of(execution: Execution, *, world: World) -> list[Datum]:
    """The files of the newest attempt, oldest first."""
    return [d for d in _visible(execution, world) if d.epoch_n == execution.epoch_n]


def carried(execution: Execution, *, world: World) -> list[Datum]:
    """The files that the newest attempt was given, in the order of their names: of each name the latest that an earlier attempt
    has stored. Purged ones are left out, and empty unless an attempt was interrupted under `autorestart`.
    """
    if not execution.carried_n:
        return []
    earlier = [d for d in _visible(execution, world) if d.epoch_n <= execution.carried_n and not d.purged]
    latest = {d.name: d for d in sorted(earlier, key=lambda d: (d.epoch_n, d.id))}
    return [latest[name] for name in sorted(latest)]


def inputs_of(execution: Execution, *, world: World) -> tuple[ExecutionInput, ...]:
    """What was requested, and `_restart` once there is something in it; it takes the place of a requested input of that name."""
    files = carried(execution, world=world)
    if not files:
        return execution.inputs
    restart = ExecutionInput(RESTART, tuple(f"datum://{d.id}" for d in files), keep_directories="full", optional=True)
    return (*(item for item in execution.inputs if item.name != RESTART), restart)


def _visible(execution: Execution, world: World) -> list[Datum]:
    ids = [str(r.value["datum_id"]) for r in walk(world.metadata, keys.outputs(execution.id))]
    return [s.value for s in find_many(world.metadata, Datum, [keys.datum(i) for i in sorted(ids)]) if s.value.visible]
