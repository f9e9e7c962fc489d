"""Why an execution waits: ordered reasons with numbers, and what would unblock each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lamplighter import keys
from lamplighter.domain.capacity import Hold, Launch, Pool
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution, Status
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import MachineState
from lamplighter.domain.projects import Principal
from lamplighter.errors import LaunchRefused
from lamplighter.records import find
from lamplighter.usecases.browse import own_execution
from lamplighter.usecases.ensure_capacity import decide
from lamplighter.usecases.fleet import machines_of
from lamplighter.usecases.queueing import queue_key
from lamplighter.world import World

AHEAD_COUNTED = 100
"""Whoever has more before them need not know how many: every look at a waiting execution counts them anew."""

_UNBLOCK = {
    "launch_failed": "It is tried again by itself; see the server's log.",
    "installation_full": "Wait for a machine of any environment to go out, or raise the installation's cap.",
    "budget_spent": "It starts by itself after midnight UTC, or raise the installation's daily budget.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause of waiting. `numbers` are the facts it rests on, `unblock` what a person could do, or what happens by itself."""

    code: str
    text: str
    numbers: Mapping[str, int | float] = field(default_factory=dict)
    unblock: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Empty reasons: it does not wait."""

    status: str
    reasons: tuple[Reason, ...]


def explain(principal: Principal, execution_id: str, *, world: World) -> Explanation:
    """The reasons, most important first. Raises `NotFound`."""
    return why_waiting(own_execution(principal, execution_id, world=world).value, world=world)


def why_waiting(execution: Execution, *, world: World) -> Explanation:
    """As `explain`, for callers that have proven their right in another way."""
    if execution.status is not Status.QUEUED:
        return Explanation(execution.status.value, ())
    lease = find(world.metadata, Lease, keys.lease(execution.id))
    if lease and lease.value.held:
        return Explanation(execution.status.value, (_preparing(execution, lease.value),))
    environment = find(world.metadata, Environment, keys.environment(execution.environment_id))
    if not environment:
        gone = Reason("environment_gone", "Its environment was deleted", unblock="Stop it and run it again elsewhere.")
        return Explanation(execution.status.value, (gone,))
    reasons = [*_environment(environment.value), *_machines(environment.value, world)]
    ahead = _ahead(execution, world)
    if ahead:
        count = f"{ahead} or more" if ahead == AHEAD_COUNTED else str(ahead)
        waits = "1 execution waits" if ahead == 1 else f"{count} executions wait"
        text = f"{waits} before it in the queue of {environment.value.name}"
        reasons.append(Reason("queue_position", text, {"ahead": ahead}, "They go first, or raise its priority."))
    return Explanation(execution.status.value, tuple(reasons))


def explained(execution: Execution, *, world: World) -> Execution:
    """The execution with the reasons in its `status_detail` while it waits for a machine."""
    if execution.status is not Status.QUEUED:
        return execution
    text = sentence(why_waiting(execution, world=world))
    return replace(execution, status_detail=text) if text else execution


def sentence(explanation: Explanation) -> str:
    """The reasons as one line, for `status_detail`."""
    return "Waiting: " + "; ".join(reason.text for reason in explanation.reasons) if explanation.reasons else ""


def _preparing(execution: Execution, lease: Lease) -> Reason:
    return Reason(
        "preparing",
        execution.status_detail or f"machine {(lease.machine_id or '')[-8:]} prepares the run",
        {"attempt": lease.n},
        "It starts by itself when code, inputs and image are there.",
    )


def _environment(environment: Environment) -> list[Reason]:
    if environment.enabled:
        return []
    text = f"environment {environment.name} is disabled"
    command = f"lamplighter environment set {environment.slug} enabled=true"
    return [Reason("environment_disabled", text, {}, f"An administrator can enable it: {command}")]


def _machines(environment: Environment, world: World) -> list[Reason]:
    machines = machines_of(environment.id, world=world)
    by_state = {state: sum(m.state is state for m in machines) for state in MachineState}
    booting, busy = by_state[MachineState.REQUESTED], by_state[MachineState.BUSY]
    draining = by_state[MachineState.DRAINING]
    numbers = {"busy": busy, "booting": booting, "draining": draining, "max_machines": environment.max_machines}
    if environment.max_machines == 0:
        command = f"lamplighter environment set {environment.slug} max_machines=1"
        return [Reason("no_machines_allowed", f"{environment.name} allows 0 machines", numbers, f"Raise it: {command}")]
    if by_state[MachineState.IDLE]:
        return [Reason("idle_machine", "an idle machine will take it within seconds", numbers, "Nothing to do.")]
    if booting:
        text = f"{booting} machine{'s are' if booting > 1 else ' is'} being lit for {environment.name}"
        return [
            Reason("booting", text, numbers, f"It starts when one has booted (limit {environment.boot_seconds} s).")
        ]
    action = decide(environment, world=world)
    if isinstance(action, Hold) and action.code:
        return [Reason(action.code, action.because, numbers, _unblock(action.code, environment, world))]
    if isinstance(action, Launch):
        return [
            Reason("launching", f"a machine is about to be requested for {environment.name}", numbers, "Nothing to do.")
        ]
    text = f"{busy + draining} of {environment.max_machines} machines of {environment.name} are in use"
    if draining:
        text += f" ({draining} going out)"
    command = f"lamplighter environment set {environment.slug} max_machines={environment.max_machines + 1}"
    return [Reason("machines_busy", text, numbers, f"Wait for one to become free, or raise the limit: {command}")]


def _unblock(code: str, environment: Environment, world: World) -> str:
    pool = find(world.metadata, Pool, keys.capacity(environment.id))
    if code != "launch_failed" or not pool or pool.value.last_code != LaunchRefused.code:
        return _UNBLOCK[code]
    where = "" if environment.cloud == "local" else "--stack NAME "
    command = f"lamplighter {where}environment set {environment.slug} FIELD=VALUE"
    return f"It does not get better by itself. An administrator can correct the environment: {command}"


def _ahead(execution: Execution, world: World) -> int:
    key = queue_key(execution)
    return len(world.metadata.query(key.partition, before=key.sort, limit=AHEAD_COUNTED).records)
