"""What an agent reports about the job it holds. Every call is fenced by the lease's epoch and may be repeated."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lamplighter import keys
from lamplighter.contract.report import Events, EventsStored, Heartbeat, Held, Inputs, Orders, Started
from lamplighter.domain.executions import Execution, Ran
from lamplighter.domain.leases import UNREACHABLE, Lease, suspect_after
from lamplighter.domain.machines import Machine
from lamplighter.errors import AlreadyWritten, Invalid, LamplighterError, NotFound, SequenceGap, Throttled, Unavailable
from lamplighter.ports import Write
from lamplighter.records import Stored, again_on_conflict, need, new, stored
from lamplighter.usecases.compose_job import code_of
from lamplighter.usecases.resolve_inputs import resolve_inputs
from lamplighter.usecases.watchers import is_watched
from lamplighter.world import World

MAX_BATCH_LINES = 5000
MAX_LINE_LENGTH = 256 * 1024
MAX_LATEST_BYTES = 100_000
"""Latest metadata values live in the execution's own record; beyond this, new keys are left to the segments."""

WAITING_FOR_STORE = "Waiting for the store"


def held(machine: Machine, execution_id: str, claimed: Held | Any, *, world: World) -> Stored[Lease]:
    """The lease, proven to be this machine's under this epoch. Raises `NotFound`, `StaleEpoch`."""
    return held_and_ordered(machine, execution_id, claimed, world=world)[0]


def held_and_ordered(
    machine: Machine, execution_id: str, claimed: Held | Any, *, world: World
) -> tuple[Stored[Lease], Orders]:
    """The lease as by `held`, and what the agent must be told in the answer, read together.

    A stop and the cloud's notice are repeated in every answer until they are obeyed.
    """
    lease_key, watched_key = keys.lease(execution_id), keys.watched(execution_id)
    rows = world.metadata.get_many([lease_key] if world.installation.live_logs else [lease_key, watched_key])
    if lease_key not in rows:
        raise NotFound("this execution does not exist")
    lease = stored(Lease, rows[lease_key])
    lease.value.check(machine.id, claimed.epoch)
    return lease, Orders(
        stop="user" if lease.value.stopping else None,
        lease_seconds=lease.value.seconds_left(world.now()),
        heartbeat_seconds=world.installation.heartbeat_seconds,
        watched=is_watched(rows.get(watched_key), world=world),
        notice=machine.notice,
    )


def list_inputs(machine: Machine, execution_id: str, message: Held, *, world: World) -> Inputs:
    """The inputs with fresh calls. Raises `Invalid` for an input that has no file and is not optional."""
    held(machine, execution_id, message, world=world)
    execution = _execution(execution_id, world).value
    return Inputs(resolve_inputs(execution, world=world), code_of(execution, world=world).call)


@again_on_conflict
def started(machine: Machine, execution_id: str, message: Started, *, world: World) -> Orders:
    """User code runs: from here the execution is shown as started."""
    lease, orders = held_and_ordered(machine, execution_id, message, world=world)
    execution = _execution(execution_id, world)
    ran = Ran(message.runtime, message.image_digest, message.interpreter, machine.id)
    if execution.value.ran != ran:
        begun = execution.value.started(ran, world.now())
        world.metadata.transact([lease.unchanged(), execution.becomes(begun)])
    return orders


@again_on_conflict
def heartbeat(machine: Machine, execution_id: str, message: Heartbeat, *, world: World) -> Orders:
    """The lease is renewed from now; a phase is shown until user code runs; a notice is kept for whoever gives out work.

    This is the most frequent call by far, and mostly it has nothing new to say. Then it costs, with the session that was
    proven before: three small records read in two calls (machine; lease and watcher together, no watcher on one server), and
    every second time one conditional write of one record, the lease, which stays below 1 KB. The execution is read and written
    only when the phase has changed or the machine had been silent, the machine only for a new notice. One that comes twice
    writes nothing.

    Where nothing is written the lease is not renewed: the answer says what is left of it.
    """
    lease, orders = held_and_ordered(machine, execution_id, message, world=world)
    if message.seq <= lease.value.heartbeat_seq:
        return orders
    now, phase, beat = world.now(), message.phase[:500], world.installation.heartbeat_seconds
    mark = hashlib.sha256(phase.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    renewed = replace(lease.value.renewed(now, message.seq), phase_mark=mark)
    writes: list[Write] = [lease.becomes(renewed)]
    changed = mark != lease.value.phase_mark
    noticed = machine.noticed(message.notice).notice
    if not changed and noticed == machine.notice and not lease.value.must_be_kept(now, beat):
        return orders
    if changed or now - (lease.value.last_heartbeat or now) >= suspect_after(beat):
        writes.extend(_shown(execution_id, phase, world))
    if noticed != machine.notice:
        known = need(world.metadata, Machine, keys.machine(machine.id), "this machine")
        writes.append(known.becomes(known.value.noticed(noticed)))
    world.metadata.transact(writes)
    return replace(orders, notice=noticed, lease_seconds=renewed.seconds_left(now))


@again_on_conflict
def store_events(machine: Machine, execution_id: str, message: Events, *, world: World) -> EventsStored:
    """Keep a batch exactly once, in order: its body first, then cursor and segment in one transaction. It renews the lease.

    A batch that is stored already, wholly or in part, keeps what is new of it. Raises `SequenceGap` when it starts too late.
    """
    lease, orders = held_and_ordered(machine, execution_id, message, world=world)
    execution = _execution(execution_id, world)
    _refuse_malformed(message)
    unseen = _unseen(message, lease.value.next_seq)
    now = world.now()
    renewed = lease.value.renewed(now)
    orders = replace(orders, lease_seconds=renewed.seconds_left(now))
    if unseen is None:
        world.metadata.transact([lease.becomes(renewed)])
        return EventsStored(lease.value.next_seq, orders)
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
        lease.becomes(replace(renewed, next_seq=next_seq, last_event_time=fresh.lines[-1][0])),
        new(keys.segment(execution_id, fresh.first_seq), segment),
    ]
    answered = execution.value.status_detail.startswith((WAITING_FOR_STORE, UNREACHABLE))
    if fresh.metadata or answered:
        latest = _latest(execution.value.latest_metadata, fresh)
        detail = "" if answered else execution.value.status_detail
        now_known = replace(execution.value, latest_metadata=latest, status_detail=detail, mtime=world.now())
        writes.append(execution.becomes(now_known))
    world.metadata.transact(writes)
    return EventsStored(next_seq, orders)


def _shown(execution_id: str, phase: str, world: World) -> list[Write]:
    """The write that shows the phase while user code does not run yet, and that nothing is unreachable any more."""
    execution = _execution(execution_id, world)
    known = execution.value
    unreachable = known.status_detail.startswith(UNREACHABLE)
    detail = phase if phase and not known.ran else "" if unreachable else known.status_detail
    if detail == known.status_detail:
        return []
    return [execution.becomes(replace(known, status_detail=detail, mtime=world.now()))]


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
