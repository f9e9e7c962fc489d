"""Carry out what transactions have promised. At least once each; doing one twice does no more than once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from lamplighter import keys
from lamplighter.domain.data import Datum
from lamplighter.domain.environments import Environment
from lamplighter.domain.machines import Machine
from lamplighter.errors import Conflict, Invalid, LamplighterError
from lamplighter.intents import Intent, intend
from lamplighter.ports import Key, Put
from lamplighter.records import Stored, again_on_conflict, find, find_many, need, new, walk, walk_together
from lamplighter.usecases.data import point_alias
from lamplighter.usecases.ensure_capacity import ensure_capacity
from lamplighter.world import World

MAX_TRIES = 8
"""Then the intent is parked for a person to look at, so that it delays nobody."""

FIRST_WAIT = timedelta(seconds=1)

_log = logging.getLogger(__name__)


def deliver_outbox(*, world: World, until: datetime | None = None) -> int:
    """Everything that is due, oldest first; how many intents were carried out. After `until` none is begun."""
    delivered = 0
    for row in list(walk_together(world.metadata, keys.OUTBOX)):
        if until is not None and world.now() >= until:
            break
        delivered += deliver_intent(row.key, world=world)
    return delivered


def deliver_intent(key: Key, *, world: World) -> bool:
    """One intent, if it is there and due; whether it was carried out.

    One that fails, for whatever reason, is tried again later by `deliver_outbox`, and parked after MAX_TRIES; a record that is
    no intent is told to the log, and stays. Raises only what the metadata raises.
    """
    try:
        stored = find(world.metadata, Intent, key)
    except Invalid as error:
        _log.error("the record %s / %s is no intent: %s", key.partition, key.sort, error.told())
        return False
    if not stored or (stored.value.not_before and stored.value.not_before > world.now()):
        return False
    return _deliver(stored, world)


def _deliver(stored: Stored[Intent], world: World) -> bool:
    intent = stored.value
    try:
        HANDLERS[intent.kind](intent, world)
    except LamplighterError as error:
        _postpone(stored, f"{error.code}: {error}", world)
        return False
    except Exception as error:
        _log.exception("the intent %s (%s) failed", intent.id, intent.kind)
        _postpone(stored, f"internal: {type(error).__name__}: {error}", world)
        return False
    try:
        world.metadata.transact([stored.removed()])
    except Conflict:
        return False  # another deliverer was here as well: all of this may be done twice
    return True


def _postpone(stored: Stored[Intent], because: str, world: World) -> None:
    intent = stored.value
    tries = intent.tries + 1
    said = because[:500]
    try:
        if tries >= MAX_TRIES:
            parked = new(keys.parked(intent.id), replace(intent, tries=tries, last_error=said))
            world.metadata.transact([stored.removed(), parked])
            return
        later = world.now() + FIRST_WAIT * 2 ** (tries - 1)
        world.metadata.transact([stored.becomes(replace(intent, tries=tries, not_before=later, last_error=said))])
    except Conflict:
        return


def _start_execution(intent: Intent, world: World) -> None:
    execution_id = intent.argument["execution_id"]
    world.workflow.start("execution", f"execution-{execution_id}", {"execution_id": execution_id})


def _start_machine(intent: Intent, world: World) -> None:
    machine_id = intent.argument["machine_id"]
    machine = need(world.metadata, Machine, keys.machine(machine_id), f"machine {machine_id}").value
    environment = find(world.metadata, Environment, keys.environment(machine.environment_id))
    boot_seconds = environment.value.boot_seconds if environment else 900
    world.workflow.start("machine", f"machine-{machine_id}", {"machine_id": machine_id, "boot_seconds": boot_seconds})


def _resume(intent: Intent, world: World) -> None:
    world.workflow.resume(intent.argument["token"], intent.argument["output"])


def _ensure_capacity(intent: Intent, world: World) -> None:
    ensure_capacity(intent.argument["environment_id"], world=world)


def _discard_outputs(intent: Intent, world: World) -> None:
    """Files of a lost attempt: no longer listed, their bytes removed."""
    for stored in _outputs(intent, world):
        if not stored.value.discarded:
            _discard(stored.key, world)


def _carry_outputs(intent: Intent, world: World) -> None:
    """Files that the next attempt is given: it is noted as their reader. Those that never came up whole are removed."""
    for stored in _outputs(intent, world):
        used_by = keys.used_by(stored.value.id, intent.argument["execution_id"])
        if not stored.value.stored:
            _discard(stored.key, world)
        elif not world.metadata.get(used_by):
            world.metadata.transact([new(used_by, {"execution_id": intent.argument["execution_id"]})])


def _outputs(intent: Intent, world: World) -> list[Stored[Datum]]:
    """The files of all attempts up to the one that the intent names."""
    execution_id, epoch_n = intent.argument["execution_id"], int(intent.argument["epoch_n"])
    ids = [str(r.value["datum_id"]) for r in walk(world.metadata, keys.outputs(execution_id))]
    found = find_many(world.metadata, Datum, [keys.datum(i) for i in ids])
    return [stored for stored in found if stored.value.epoch_n <= epoch_n]


@again_on_conflict
def _discard(key: Key, world: World) -> None:
    stored = find(world.metadata, Datum, key)
    if not stored or stored.value.discarded:
        return
    datum = stored.value
    writes: list[Put] = [stored.becomes(replace(datum, discarded=True))]
    writes.append(intend(world, "delete_object", store=datum.store, key=datum.object_key))
    world.metadata.transact(writes)


def _delete_object(intent: Intent, world: World) -> None:
    world.stores.named(intent.argument["store"]).delete(intent.argument["key"])


def _set_alias(intent: Intent, world: World) -> None:
    a = intent.argument
    point_alias(a["project_id"], a["name"], a["datum_id"], world=world)


HANDLERS: dict[str, Callable[[Intent, World], None]] = {
    "start_execution": _start_execution,
    "start_machine": _start_machine,
    "resume": _resume,
    "ensure_capacity": _ensure_capacity,
    "discard_outputs": _discard_outputs,
    "carry_outputs": _carry_outputs,
    "delete_object": _delete_object,
    "set_alias": _set_alias,
}
