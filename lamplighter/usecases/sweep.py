"""Compare what is wanted with what is, in both directions, and move each thing one step. Right even if nothing else runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from lamplighter import keys
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution
from lamplighter.domain.leases import FENCE_AFTER, UNREACHABLE, Lease, suspect_after
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.domain.sweeps import Place, SweepMemory
from lamplighter.errors import Conflict, LamplighterError
from lamplighter.intents import intend
from lamplighter.ports import ABSENT
from lamplighter.records import Stored, find, find_many, stored, walk
from lamplighter.usecases.deliver_outbox import deliver_outbox
from lamplighter.usecases.ensure_capacity import ensure_capacity
from lamplighter.usecases.inventory import Inventory, ask
from lamplighter.usecases.machines import know_cloud_id, put_out_and_settle, silent_since
from lamplighter.usecases.orphans import find_orphans
from lamplighter.usecases.sweep_executions import ExecutionsWalk
from lamplighter.usecases.sweep_report import SweepReport
from lamplighter.world import World

STUCK_AFTER = timedelta(minutes=2)
"""A machine in transit for longer than this has lost its state machine's attention, and gets ours."""

BRAKE_SHARE = 0.2
BRAKE_AT_LEAST = 5

PROMISES_SHARE, LEAST_SHARE = 0.5, 0.1
"""Of the time that is left after the machines promises get the half, so that a long outbox leaves some for executions. A tenth of
the whole time is left in any case: a fleet that takes long to look at must not starve either for good.
"""


def sweep(*, world: World, seconds: float | None = None) -> SweepReport:
    """One pass over everything. Never raises what a single thing's fault can explain: it is reported, the rest goes on.

    Machines come first, and that they were looked at is noted at once: nothing that is slow afterwards keeps silent ones from
    being fenced. With `seconds`, no promise is begun when half of the time that machines have left is over, and no execution is
    looked at when all of it is: the next sweep goes on from there, so that each has its turn.
    """
    report = SweepReport()
    begun = world.now()
    before = find(world.metadata, SweepMemory, keys.SWEEP) or Stored(keys.SWEEP, ABSENT, SweepMemory())
    environments = [str(row.value["environment_id"]) for row in walk(world.metadata, keys.ENVIRONMENTS)]
    _sweep_clouds(before, environments, report, world)
    until = _until(begun, seconds, PROMISES_SHARE, world)
    report.delivered = report.attempt(partial(deliver_outbox, world=world, until=until)) or 0
    for environment_id in environments:
        report.attempt(partial(ensure_capacity, environment_id, world=world))
    executions = ExecutionsWalk(before.value.place, _until(begun, seconds, 1, world), report, world)
    executions.through(environments)
    if executions.place != before.value.place:
        report.attempt(partial(_note_place, executions.place, world))
    return report


def _until(begun: datetime, seconds: float | None, share: float, world: World) -> datetime | None:
    """When this share is over of what is left of a sweep's time; None without a bound."""
    if seconds is None:
        return None
    now, whole = world.now(), timedelta(seconds=seconds)
    return now + max(begun + whole - now, whole * LEAST_SHARE) * share


def _sweep_clouds(before: Stored[SweepMemory], environments: list[str], report: SweepReport, world: World) -> None:
    """All that concerns machines, which cost money and hold work, and the note that it was done."""
    memory = before.value.begun(world.now())
    up_since = datetime.fromtimestamp(world.installation.up_since, UTC)
    listening = max(t for t in (memory.resumed_at, up_since) if t)
    clouds = _described(world, report)
    for environment_id in environments:
        report.attempt(partial(_sweep_machines, environment_id, clouds, listening, report, world))
    memory = _reap_orphans(clouds, memory, report, world)
    report.attempt(partial(_note, before, memory, world))


def _described(world: World, report: SweepReport) -> dict[str, Inventory]:
    found = {}
    for name in world.clouds:
        try:
            found[name] = ask(name, world=world)
        except LamplighterError as error:
            report.faults += (f"cloud {name} could not be described: {error}",)
    return found


def _sweep_machines(
    environment_id: str, clouds: dict[str, Inventory], listening: datetime, report: SweepReport, world: World
) -> None:
    environment = find(world.metadata, Environment, keys.environment(environment_id))
    if not environment:
        return
    inventory = clouds.get(environment.value.cloud)
    ids = [r.key.sort for r in walk(world.metadata, keys.machines(environment_id))]
    machines = [s.value for s in find_many(world.metadata, Machine, [keys.machine(i) for i in ids])]
    silences = _Silences(machines, listening, world)
    silent: list[Machine] = []
    suspected = suspect_after(world.installation.heartbeat_seconds)
    for machine in machines:
        report.attempt(partial(_know_body, machine, inventory, world))
        if inventory and inventory.certainly_gone(machine, world=world):
            report.lost += 1
            because = f"it vanished: {inventory.why_gone(machine)}"
            report.attempt(partial(put_out_and_settle, machine.id, because, world=world))
        elif machine.state is MachineState.BUSY:
            silence = report.attempt(partial(silences.of, machine))
            if silence is not None and silence >= suspected:
                _show_unreachable(machine, silence, report, world)
                if silence >= FENCE_AFTER:
                    silent.append(machine)
        elif _overdue(machine, environment.value, world):
            report.attempt(partial(_push, machine, world))
    _fence(silent, len(machines), report, world)


def _know_body(machine: Machine, inventory: Inventory | None, world: World) -> None:
    """A launch whose answer was lost left the cloud's id unknown."""
    body = inventory.body_of(machine) if inventory and not machine.cloud_id else None
    if body and body.state != "gone":
        know_cloud_id(machine.id, body.cloud_id, world=world)


class _Silences:
    """For how long busy machines have said nothing while we would have heard it, at the moment of one look at their leases."""

    def __init__(self, machines: list[Machine], listening: datetime, world: World) -> None:
        self._listening = listening
        # Before the look: a heartbeat that comes in meanwhile must never seem older than it is.
        self._now = world.now()
        held = [m.execution_id for m in machines if m.state is MachineState.BUSY and m.execution_id]
        self._leases = world.metadata.get_many([keys.lease(execution_id) for execution_id in held])

    def of(self, machine: Machine) -> timedelta:
        """Raises `Invalid` where the lease cannot be read."""
        record = self._leases.get(keys.lease(machine.execution_id)) if machine.execution_id else None
        heard = silent_since(machine, stored(Lease, record).value.last_heartbeat if record else None)
        return self._now - max(heard, self._listening)


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
        report.attempt(partial(put_out_and_settle, machine.id, because, world=world))


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
        found = report.attempt(partial(find_orphans, name, inventory, memory, world=world))
        memory, due = found or (memory, [])
        for machine_id in due:
            report.orphans += 1
            report.attempt(partial(world.clouds[name].terminate, machine_id))
    return memory


def _note(before: Stored[SweepMemory], memory: SweepMemory, world: World) -> None:
    now = world.now()
    if not memory.worth_noting(before.value, now):
        return
    try:
        world.metadata.transact([before.becomes(replace(memory, finished_at=now))])
    except Conflict:
        return  # another sweep has just finished: its note is as good


def _note_place(place: Place | None, world: World) -> None:
    """The record was written meanwhile, by us at least: only the place changes."""
    stored_memory = find(world.metadata, SweepMemory, keys.SWEEP)
    if not stored_memory:
        return
    try:
        world.metadata.transact([stored_memory.becomes(replace(stored_memory.value, place=place))])
    except Conflict:
        return  # another sweep has just been here: some executions are looked at twice
