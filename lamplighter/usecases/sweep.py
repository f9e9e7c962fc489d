"""Compare what is wanted with what is, in both directions, and move each thing one step. Right even if nothing else runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from lamplighter import keys
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution, Status
from lamplighter.domain.leases import FENCE_AFTER, UNREACHABLE, Lease, suspect_after
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.domain.sweeps import SweepMemory
from lamplighter.errors import Conflict, LamplighterError, NotYet
from lamplighter.intents import intend
from lamplighter.ports import ABSENT
from lamplighter.records import Stored, find, find_many, new, walk
from lamplighter.usecases.deliver_outbox import deliver_outbox
from lamplighter.usecases.ensure_capacity import ensure_capacity
from lamplighter.usecases.inventory import Inventory, ask
from lamplighter.usecases.machines import know_cloud_id, put_out_and_settle, silent_since
from lamplighter.usecases.orphans import find_orphans
from lamplighter.usecases.queueing import queue_key
from lamplighter.world import World

STUCK_AFTER = timedelta(minutes=2)
"""A machine in transit for longer than this has lost its state machine's attention, and gets ours."""

BRAKE_SHARE = 0.2
BRAKE_AT_LEAST = 5


@dataclass(slots=True)
class SweepReport:
    """What one sweep found and did, for the operator's counters."""

    delivered: int = 0
    requeued: int = 0
    unreachable: int = 0
    fenced: int = 0
    lost: int = 0
    orphans: int = 0
    braked: bool = False
    faults: tuple[str, ...] = ()


def sweep(*, world: World) -> SweepReport:
    """One pass over everything. Never raises what a single thing's fault can explain: it is reported, the rest goes on."""
    report = SweepReport()
    before = find(world.metadata, SweepMemory, keys.SWEEP) or Stored(keys.SWEEP, ABSENT, SweepMemory())
    memory = before.value.begun(world.now())
    up_since = datetime.fromtimestamp(world.installation.up_since, UTC)
    listening = max(t for t in (memory.resumed_at, up_since) if t)
    clouds = _described(world, report)
    for row in list(walk(world.metadata, keys.ENVIRONMENTS)):
        environment_id = str(row.value["environment_id"])
        _try(report, partial(_sweep_environment, environment_id, clouds, listening, report, world))
    memory = _reap_orphans(clouds, memory, report, world)
    report.delivered = deliver_outbox(world=world)
    _note(before, memory, world)
    return report


def _sweep_environment(
    environment_id: str, clouds: dict[str, Inventory], listening: datetime, report: SweepReport, world: World
) -> None:
    environment = find(world.metadata, Environment, keys.environment(environment_id))
    if not environment:
        return
    for row in list(walk(world.metadata, keys.live_of_environment(environment_id))):
        _try(report, partial(_sweep_execution, row.key.sort, report, world))
    _sweep_machines(environment.value, clouds.get(environment.value.cloud), listening, report, world)
    ensure_capacity(environment_id, world=world)


def _described(world: World, report: SweepReport) -> dict[str, Inventory]:
    found = {}
    for name in world.clouds:
        try:
            found[name] = ask(name, world=world)
        except LamplighterError as error:
            report.faults += (f"cloud {name} could not be described: {error}",)
    return found


def _sweep_execution(execution_id: str, report: SweepReport, world: World) -> None:
    """What is live waits in the queue, or is held; and its state machine knows of it."""
    execution = find(world.metadata, Execution, keys.execution(execution_id))
    lease = find(world.metadata, Lease, keys.lease(execution_id))
    if not execution or not lease:
        return
    if not lease.value.held and execution.value.status is Status.QUEUED:
        _requeue_if_missing(execution, report, world)
    if not world.metadata.get(keys.workflow_token(execution_id)):
        world.workflow.start("execution", f"execution-{execution_id}", {"execution_id": execution_id})


def _requeue_if_missing(execution: Stored[Execution], report: SweepReport, world: World) -> None:
    key = queue_key(execution.value)
    if world.metadata.get(key):
        return
    try:
        world.metadata.transact([execution.unchanged(), new(key, {"execution_id": execution.value.id})])
    except Conflict:
        return
    report.requeued += 1


def _sweep_machines(
    environment: Environment, inventory: Inventory | None, listening: datetime, report: SweepReport, world: World
) -> None:
    ids = [r.key.sort for r in walk(world.metadata, keys.machines(environment.id))]
    machines = [s.value for s in find_many(world.metadata, Machine, [keys.machine(i) for i in ids])]
    silent: list[Machine] = []
    suspected = suspect_after(world.installation.heartbeat_seconds)
    for machine in machines:
        _try(report, partial(_know_body, machine, inventory, world))
        if inventory and inventory.certainly_gone(machine, world=world):
            report.lost += 1
            because = f"it vanished: {inventory.why_gone(machine)}"
            _try(report, partial(put_out_and_settle, machine.id, because, world=world))
        elif machine.state is MachineState.BUSY and (silence := _silence(machine, listening, world)) >= suspected:
            _show_unreachable(machine, silence, report, world)
            if silence >= FENCE_AFTER:
                silent.append(machine)
        elif _overdue(machine, environment, world):
            _try(report, partial(_push, machine, world))
    _fence(silent, len(machines), report, world)


def _know_body(machine: Machine, inventory: Inventory | None, world: World) -> None:
    """A launch whose answer was lost left the cloud's id unknown."""
    body = inventory.body_of(machine) if inventory and not machine.cloud_id else None
    if body and body.state != "gone":
        know_cloud_id(machine.id, body.cloud_id, world=world)


def _silence(machine: Machine, listening: datetime, world: World) -> timedelta:
    """For how long it has said nothing while we would have heard it."""
    lease = find(world.metadata, Lease, keys.lease(machine.execution_id)) if machine.execution_id else None
    heard = silent_since(machine, lease.value.last_heartbeat if lease else None)
    return world.now() - max(heard, listening)


def _show_unreachable(machine: Machine, silence: timedelta, report: SweepReport, world: World) -> None:
    report.unreachable += 1
    execution = find(world.metadata, Execution, keys.execution(machine.execution_id or "-"))
    seconds = int(silence.total_seconds())
    text = f"{UNREACHABLE}machine {machine.id[-8:]} has been silent for {seconds // 60 * 60} s"
    if not execution or execution.value.status.terminal or execution.value.status_detail == text:
        return
    try:
        world.metadata.transact([execution.becomes(replace(execution.value, status_detail=text))])
    except Conflict:
        return


def _fence(silent: list[Machine], fleet: int, report: SweepReport, world: World) -> None:
    """End silent machines so that their work can move, unless so many fall silent at once that the fault is likely ours."""
    if len(silent) >= BRAKE_AT_LEAST and len(silent) > BRAKE_SHARE * fleet:
        report.braked = True
        return
    for machine in silent:
        report.fenced += 1
        because = f"no heartbeat for {int(FENCE_AFTER.total_seconds())} s"
        _try(report, partial(put_out_and_settle, machine.id, because, world=world))


def _overdue(machine: Machine, environment: Environment, world: World) -> bool:
    age = world.now() - machine.requested_at
    if machine.state is MachineState.DRAINING:
        return True
    if machine.state is MachineState.REQUESTED:
        return age >= STUCK_AFTER or machine.workflow_token is None
    if machine.state is MachineState.IDLE and machine.notice:
        return True
    idle_for = world.now() - machine.idle_since if machine.state is MachineState.IDLE and machine.idle_since else None
    return idle_for is not None and idle_for >= timedelta(seconds=environment.idle_seconds) + STUCK_AFTER


def _push(machine: Machine, world: World) -> None:
    """Its state machine is started if it never was; a machine that must go is put out by us if need be."""
    environment = find(world.metadata, Environment, keys.environment(machine.environment_id))
    boot = timedelta(seconds=environment.value.boot_seconds if environment else 900)
    late = machine.state is MachineState.REQUESTED and world.now() - machine.requested_at >= boot + STUCK_AFTER
    idle = machine.state is MachineState.IDLE
    if machine.state is MachineState.DRAINING or late or idle:
        put_out_and_settle(machine.id, machine.retired_because or _why_out(machine, late), world=world)
        return
    world.metadata.transact([intend(world, "start_machine", machine_id=machine.id)])


def _why_out(machine: Machine, late: bool) -> str:
    if machine.notice:
        return f"its cloud gave notice: {machine.notice}"
    return "it never registered" if late else "idle, and it has stopped asking for work"


def _reap_orphans(clouds: dict[str, Inventory], memory: SweepMemory, report: SweepReport, world: World) -> SweepMemory:
    """A cloud that did not answer, or not wholly, is passed over: its marks stay, and nothing of it is ended."""
    for name, inventory in clouds.items():
        memory, due = find_orphans(name, inventory, memory, world=world)
        for machine_id in due:
            report.orphans += 1
            _try(report, partial(world.clouds[name].terminate, machine_id))
    return memory


def _note(before: Stored[SweepMemory], memory: SweepMemory, world: World) -> None:
    now = world.now()
    if not memory.worth_noting(before.value, now):
        return
    try:
        world.metadata.transact([before.becomes(replace(memory, finished_at=now))])
    except Conflict:
        return  # another sweep has just finished: its note is as good


def _try(report: SweepReport, step: Callable[[], object]) -> None:
    try:
        step()
    except NotYet:
        return  # accepted, and asked again in the next sweep
    except LamplighterError as error:
        report.faults += (f"{error.code}: {error.told()}"[:500],)
