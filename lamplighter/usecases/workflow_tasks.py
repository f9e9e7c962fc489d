"""The tasks that the state machines call, by name. Each may be called again at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamplighter import keys
from lamplighter.domain.data import Datum
from lamplighter.domain.executions import Execution
from lamplighter.errors import NotFound, NotYet
from lamplighter.intents import intend
from lamplighter.ports import ABSENT, Json, Put, Write
from lamplighter.records import Stored, again_on_conflict, find, find_many, walk
from lamplighter.usecases import machines
from lamplighter.world import World


def perform(payload: Json, *, world: World) -> dict[str, Any]:
    """Do what the payload's `task` says. Raises `NotFound` for a task that this version does not know."""
    task = TASKS.get(str(payload.get("task")))
    if not task:
        raise NotFound(f"there is no workflow task {payload.get('task')!r}; known are {', '.join(sorted(TASKS))}")
    task(payload, world)
    return {}


@again_on_conflict
def begin_execution(payload: Json, world: World) -> None:
    """Note the token that the execution's end will answer; answer it now if it has ended already."""
    execution_id, token = str(payload["execution_id"]), str(payload["task_token"])
    stored = find(world.metadata, Execution, keys.execution(execution_id))
    if not stored:
        raise NotFound(f"execution {execution_id} does not exist")
    known = world.metadata.get(keys.workflow_token(execution_id))
    writes: list[Write] = [
        stored.unchanged(),
        Put(keys.workflow_token(execution_id), {"token": token}, known.version if known else ABSENT),
    ]
    if stored.value.status.terminal:
        writes.append(intend(world, "resume", token=token, output={"status": stored.value.status.value}))
    world.metadata.transact(writes)
    world.nudge()


def settle_execution(payload: Json, world: World) -> None:
    """After the end: forget the token, and let go of files that were announced and never arrived.

    Raises `NotYet` while the execution has not ended, whatever has become of the state before: its files may still arrive.
    """
    execution_id = str(payload["execution_id"])
    stored = find(world.metadata, Execution, keys.execution(execution_id))
    if stored and not stored.value.status.terminal:
        raise NotYet(f"execution {execution_id} has not ended: it is {stored.value.status}")
    token = world.metadata.get(keys.workflow_token(execution_id))
    if token:
        world.metadata.transact([Stored(token.key, token.version, token.value).removed()])
    ids = [str(r.value["datum_id"]) for r in walk(world.metadata, keys.outputs(execution_id))]
    for datum in find_many(world.metadata, Datum, [keys.datum(i) for i in ids]):
        if not datum.value.stored:
            world.stores.named(datum.value.store).delete(datum.value.object_key)


def _launch(payload: Json, world: World) -> None:
    machines.launch_machine(str(payload["machine_id"]), str(payload["task_token"]), world=world)


def _watch(payload: Json, world: World) -> None:
    machines.watch_machine(str(payload["machine_id"]), str(payload["task_token"]), world=world)


def _put_out(payload: Json, world: World) -> None:
    reason = str(payload.get("reason") or "its work is over")
    machines.put_out_machine(str(payload["machine_id"]), reason, world=world)


def _settle(payload: Json, world: World) -> None:
    machines.settle_machine(str(payload["machine_id"]), world=world)


TASKS: dict[str, Callable[[Json, World], None]] = {
    "begin_execution": begin_execution,
    "settle_execution": settle_execution,
    "launch_machine": _launch,
    "watch_machine": _watch,
    "put_out_machine": _put_out,
    "settle_machine": _settle,
}
