"""The end of an attempt, reported by its agent or concluded from the loss of its machine."""

from __future__ import annotations

from dataclasses import replace

from lamplighter import keys
from lamplighter.contract.report import Finish, Finished
from lamplighter.domain.data import Datum
from lamplighter.domain.executions import Execution, after_finish, after_loss
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine
from lamplighter.errors import Invalid, SequenceGap
from lamplighter.intents import Kind, intend, record
from lamplighter.ports import Write
from lamplighter.records import Stored, again_on_conflict, find, find_many, need, new
from lamplighter.usecases.queueing import queue_key
from lamplighter.usecases.report import held
from lamplighter.usecases.status_events import microseconds, moment, status_event
from lamplighter.usecases.store_outputs import describe_output
from lamplighter.world import World

MAX_OUTPUTS = 100_000


@again_on_conflict
def finish_execution(machine: Stored[Machine], execution_id: str, message: Finish, *, world: World) -> Finished:
    """Record the end once, in one transaction under the epoch. The same report again gives the same answer.

    Raises `StaleEpoch` when the lease has moved on, `SequenceGap` while events are missing, `Invalid` while outputs are.
    """
    lease = need(world.metadata, Lease, keys.lease(execution_id), "this execution")
    execution = need(world.metadata, Execution, keys.execution(execution_id), "this execution")
    if not lease.value.held and lease.value.epoch == message.epoch:
        return Finished(execution.value.status.value)
    held(machine.value, execution_id, message, world=world)
    if message.last_seq != lease.value.next_seq:
        raise SequenceGap(lease.value.next_seq)
    _describe(execution_id, message, world)
    now = world.now()
    known = machine.value.noticed(message.notice)
    reason, exit_code = message.reason[:2000], message.exit_code
    ended = after_finish(execution.value, message.outcome, reason, exit_code, now, notice=known.notice)
    world.metadata.transact(
        [
            *conclusion(execution, ended, lease, world),
            machine.becomes(known.rested(now)),
        ]
    )
    world.nudge()
    return Finished(ended.status.value)


def lose_attempt(machine: Machine, reason: str, *, world: World) -> list[Write]:
    """The writes that free the execution of a machine that is certainly gone; none when it holds none."""
    if not machine.execution_id:
        return []
    execution = find(world.metadata, Execution, keys.execution(machine.execution_id))
    lease = find(world.metadata, Lease, keys.lease(machine.execution_id))
    if not execution or not lease or lease.value.machine_id != machine.id:
        return []
    ended = after_loss(execution.value, reason, world.now())
    return conclusion(execution, ended, lease, world)


def conclusion(
    execution: Stored[Execution], ended: Execution, lease: Stored[Lease] | None, world: World
) -> list[Write]:
    """The writes that make `ended` true: the end with everything that hangs on it, or another place in the queue."""
    now = world.now()
    after_logs = max(now, moment(lease.value.last_event_time + 1)) if lease else now
    writes: list[Write] = [execution.becomes(ended)]
    if lease:
        writes.append(lease.becomes(replace(lease.value.released(), last_event_time=microseconds(after_logs))))
    writes.append(status_event(ended.id, _sentence(ended), after_logs))
    writes.append(
        record(
            world, ended.organisation_id, "lamplighter", f"execution.{ended.status}", ended.id, why=ended.status_detail
        )
    )
    if not ended.status.terminal:
        writes.append(new(queue_key(ended), {"execution_id": ended.id}))
        writes.append(intend(world, "ensure_capacity", environment_id=ended.environment_id))
        fate: Kind = "carry_outputs" if ended.carried_n else "discard_outputs"
        writes.append(intend(world, fate, execution_id=ended.id, epoch_n=ended.epoch_n))
        return writes
    writes.extend(_forget_live(ended, world))
    token = world.metadata.get(keys.workflow_token(ended.id))
    if token:
        writes.append(intend(world, "resume", token=str(token.value["token"]), output={"status": ended.status.value}))
    return writes


def _describe(execution_id: str, message: Finish, world: World) -> None:
    """Metadata that was only known at the end. Outside the last transaction, since there may be thousands of files."""
    if len(message.outputs) > MAX_OUTPUTS:
        raise Invalid({"outputs": [f"At most {MAX_OUTPUTS} outputs an execution."]})
    for stored in find_many(world.metadata, Datum, [keys.datum(output_id) for output_id in message.outputs]):
        datum = stored.value
        if datum.execution_id != execution_id or not datum.stored:
            raise Invalid({"outputs": [f"Output {datum.name} was not stored: upload it again."]})
        metadata = message.output_metadata.get(datum.name)
        if metadata and not datum.is_described_by(metadata):
            describe_output(datum.id, metadata, world=world)


def _forget_live(ended: Execution, world: World) -> list[Write]:
    rows = [
        keys.live_in_project(ended.project_id, ended.counter),
        keys.live_in_environment(ended.environment_id, ended.id),
    ]
    if ended.qtime:
        rows.append(queue_key(ended))
    found = world.metadata.get_many(rows)
    return [Stored(r.key, r.version, r.value).removed() for r in found.values()]


def _sentence(ended: Execution) -> str:
    said = ended.status.value.capitalize() if ended.status.terminal else "Queued again"
    return f"{said}: {ended.status_detail}" if ended.status_detail else said
