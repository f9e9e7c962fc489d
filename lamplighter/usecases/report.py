"""What an agent reports about the job it holds. Every call is fenced by the lease's epoch and may be repeated."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lamplighter import keys
from lamplighter.contract.report import Events, EventsStored, Heartbeat, Held, Inputs, Orders, Started
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution, Ran
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine
from lamplighter.errors import AlreadyWritten, Invalid, LamplighterError, SequenceGap, Throttled, Unavailable
from lamplighter.ports import Write
from lamplighter.records import Stored, again_on_conflict, find, need, new
from lamplighter.usecases.compose_job import code_of
from lamplighter.usecases.resolve_inputs import resolve_inputs
from lamplighter.world import World

MAX_BATCH_LINES = 5000
MAX_LINE_LENGTH = 256 * 1024
MAX_LATEST_BYTES = 100_000
"""Latest metadata values live in the execution's own record; beyond this, new keys are left to the segments."""

DEFAULT_LEASE_SECONDS = 900
WAITING_FOR_STORE = "Waiting for the store"


def held(machine: Machine, execution_id: str, claimed: Held | Any, *, world: World) -> Stored[Lease]:
    """The lease, proven to be this machine's under this epoch. Raises `NotFound`, `StaleEpoch`."""
    lease = need(world.metadata, Lease, keys.lease(execution_id), "this execution")
    lease.value.check(machine.id, claimed.epoch)
    return lease


def orders(execution: Execution, *, world: World) -> Orders:
    """What the agent must know in every answer: a stop is repeated until it is obeyed."""
    environment = find(world.metadata, Environment, keys.environment(execution.environment_id))
    return Orders(
        stop="user" if execution.stop else None,
        lease_seconds=environment.value.lease_seconds if environment else DEFAULT_LEASE_SECONDS,
        heartbeat_seconds=world.installation.heartbeat_seconds,
        watched=world.installation.live_logs,
    )


def list_inputs(machine: Machine, execution_id: str, message: Held, *, world: World) -> Inputs:
    """The inputs with fresh calls. Raises `Invalid` for an input that has no file and is not optional."""
    held(machine, execution_id, message, world=world)
    execution = _execution(execution_id, world).value
    return Inputs(resolve_inputs(execution, world=world), code_of(execution, world=world).call)


@again_on_conflict
def started(machine: Machine, execution_id: str, message: Started, *, world: World) -> Orders:
    """User code runs: from here the execution is shown as started."""
    lease = held(machine, execution_id, message, world=world)
    execution = _execution(execution_id, world)
    ran = Ran(message.runtime, message.image_digest, message.interpreter, machine.id)
    if execution.value.ran == ran:
        return orders(execution.value, world=world)
    begun = execution.value.started(ran, world.now())
    world.metadata.transact([lease.unchanged(), execution.becomes(begun)])
    return orders(begun, world=world)


@again_on_conflict
def heartbeat(machine: Machine, execution_id: str, message: Heartbeat, *, world: World) -> Orders:
    """The lease is renewed from now; a phase is shown until user code runs."""
    lease = held(machine, execution_id, message, world=world)
    execution = _execution(execution_id, world)
    told = orders(execution.value, world=world)
    writes: list[Write] = [lease.becomes(lease.value.renewed(message.seq, seconds=told.lease_seconds, now=world.now()))]
    phase = message.phase[:500]
    if phase and not execution.value.ran and execution.value.status_detail != phase:
        writes.append(execution.becomes(replace(execution.value, status_detail=phase, mtime=world.now())))
    world.metadata.transact(writes)
    return told


@again_on_conflict
def store_events(machine: Machine, execution_id: str, message: Events, *, world: World) -> EventsStored:
    """Keep a batch exactly once, in order: its body first, then cursor and segment in one transaction.

    A batch that is stored already, wholly or in part, keeps what is new of it. Raises `SequenceGap` when it starts too late.
    """
    lease = held(machine, execution_id, message, world=world)
    execution = _execution(execution_id, world)
    _refuse_malformed(message)
    unseen = _unseen(message, lease.value.next_seq)
    if unseen is None:
        return EventsStored(lease.value.next_seq, orders(execution.value, world=world))
    fresh = replace(unseen, lines=_rising(unseen.lines, lease.value.last_event_time))
    store_name = world.stores.home("logs")
    body_key = f"logs/{execution_id}/{fresh.first_seq:012d}-{lease.value.epoch}-{world.new_id()}.json.gz"
    try:
        _write_body(world, store_name, body_key, fresh)
    except (Unavailable, Throttled) as error:
        _tell_of_store(execution, f"{WAITING_FOR_STORE} {store_name}: {error}"[:500], world)
        raise
    next_seq = fresh.first_seq + len(fresh.lines)
    segment = {
        "count": len(fresh.lines),
        "points": len(fresh.metadata),
        "first_time": fresh.lines[0][0],
        "store": store_name,
        "body": body_key,
    }
    writes: list[Write] = [
        lease.becomes(replace(lease.value, next_seq=next_seq, last_event_time=fresh.lines[-1][0])),
        new(keys.segment(execution_id, fresh.first_seq), segment),
    ]
    answered = execution.value.status_detail.startswith(WAITING_FOR_STORE)
    if fresh.metadata or answered:
        latest = _latest(execution.value.latest_metadata, fresh)
        detail = "" if answered else execution.value.status_detail
        now_known = replace(execution.value, latest_metadata=latest, status_detail=detail, mtime=world.now())
        writes.append(execution.becomes(now_known))
    world.metadata.transact(writes)
    return EventsStored(next_seq, orders(execution.value, world=world))


def _execution(execution_id: str, world: World) -> Stored[Execution]:
    return need(world.metadata, Execution, keys.execution(execution_id), "this execution")


def _refuse_malformed(message: Events) -> None:
    if len(message.lines) > MAX_BATCH_LINES:
        raise Invalid({"lines": [f"At most {MAX_BATCH_LINES} lines a batch."]})
    for _, stream, text in message.lines:
        if stream not in (0, 1, 2) or len(text) > MAX_LINE_LENGTH:
            raise Invalid({"lines": [f"Streams are 0, 1 and 2, and a line has at most {MAX_LINE_LENGTH} characters."]})


def _rising(lines: tuple[tuple[int, int, str], ...], previous: int) -> tuple[tuple[int, int, str], ...]:
    """Clients tell equal lines apart by their times: a machine whose clock is behind the last one's is moved up."""
    risen = []
    for at, stream, text in lines:
        previous = max(at, previous + 1)
        risen.append((previous, stream, text))
    return tuple(risen)


def _unseen(message: Events, next_seq: int) -> Events | None:
    if message.first_seq > next_seq:
        raise SequenceGap(next_seq)
    known = next_seq - message.first_seq
    if known >= len(message.lines):
        return None
    points = tuple((seq, point) for seq, point in message.metadata if next_seq <= seq < next_seq + len(message.lines))
    return replace(message, first_seq=next_seq, lines=message.lines[known:], metadata=points)


def _write_body(world: World, store_name: str, key: str, events: Events) -> None:
    plain = json.dumps({"lines": events.lines, "metadata": events.metadata}, ensure_ascii=False)
    body = gzip.compress(plain.encode("utf-8", "surrogatepass"), compresslevel=1, mtime=0)
    try:
        world.stores.named(store_name).put(key, io.BytesIO(body), size=len(body))
    except AlreadyWritten:
        # The key holds a fresh id: only our own repeated call can have written it.
        return


def _tell_of_store(execution: Stored[Execution], detail: str, world: World) -> None:
    """Whoever looks is told why nothing moves; a lost race for saying so matters to nobody."""
    if execution.value.status_detail != detail:
        with contextlib.suppress(LamplighterError):
            world.metadata.transact([execution.becomes(replace(execution.value, status_detail=detail))])


def _latest(known: Mapping[str, Any], events: Events) -> dict[str, Any]:
    latest = dict(known)
    for _, point in events.metadata:
        for name, value in point.items():
            if name in latest or len(json.dumps(latest)) < MAX_LATEST_BYTES:
                latest[name] = value
    return latest
