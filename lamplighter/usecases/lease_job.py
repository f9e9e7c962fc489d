"""Give a machine its next job, or tell it to wait or to go out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lamplighter import keys
from lamplighter.contract.report import Claim, Offer
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution, Status
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import Invalid, LamplighterError, NotFound
from lamplighter.intents import intend, record
from lamplighter.ports import Write
from lamplighter.records import Stored, again_on_conflict, find, find_many
from lamplighter.usecases.compose_job import compose_job
from lamplighter.usecases.finish_execution import conclusion
from lamplighter.usecases.queueing import queue_key
from lamplighter.usecases.sessions import digest, fresh_token, machine_of
from lamplighter.usecases.status_events import status_event
from lamplighter.world import Installation, World

LOOK_AHEAD = 20
"""Queue entries read per claim: the cost of a claim does not depend on the length of the queue."""

COMPOSING_FAULTS = (Invalid, NotFound, TypeError, ValueError, KeyError, AttributeError)
"""Faults of the execution itself; a store or a secret that does not answer is none of them."""

SEEN_EVERY = timedelta(seconds=60)
"""How often an idle machine's asking is written down."""

SOON, PART = timedelta(seconds=30), 15.0
"""A machine that has been idle for longer asks again after this part of its idle time, within the installation's bounds."""


@again_on_conflict
def lease_job(session: str, claim: Claim, *, world: World) -> Offer:
    """The first waiting execution, under a new epoch; or `wait`; or `drain`, after which no lease is ever given, as when the
    machine's cloud has given notice.

    The same claim id gives the same lease again, so a lost answer loses nothing. Raises `NotAuthenticated`.
    """
    stored = machine_of(session, world=world)
    machine = stored.value
    if machine.state is MachineState.BUSY and machine.execution_id:
        return _again(machine, claim, world)
    if machine.state is not MachineState.IDLE:
        return Offer("drain")
    if machine.notice:
        world.metadata.transact(retirement(stored, f"its cloud gave notice: {machine.notice}", world))
        world.nudge()
        return Offer("drain")
    environment = find(world.metadata, Environment, keys.environment(machine.environment_id))
    if not environment:
        return Offer("drain")
    if claim.claim_id != machine.last_claim_id:
        first = _waiting(environment.value, world)
        if first:
            return _grant(stored, *first, claim, environment.value, world)
    return _rest(stored, environment.value, world)


def _again(machine: Machine, claim: Claim, world: World) -> Offer:
    """A machine that asks while it has a job has lost our answer, or itself: the claim id tells which."""
    execution_id = machine.execution_id or ""
    execution = find(world.metadata, Execution, keys.execution(execution_id))
    lease = find(world.metadata, Lease, keys.lease(execution_id))
    if execution and lease and lease.value.machine_id == machine.id and machine.claim_id == claim.claim_id:
        token = fresh_token("j")
        renewed = replace(lease.value.renewed(world.now()), job_token_sha256=digest(token))
        world.metadata.transact([lease.becomes(renewed)])
        return Offer("work", compose_job(execution.value, renewed, token, world=world))
    return Offer("wait", wait_seconds=world.installation.poll_seconds)


def _waiting(
    environment: Environment, world: World
) -> tuple[Stored[Execution], Stored[Lease], Stored[dict[str, str]]] | None:
    """The first that really waits; entries that have lost their reason to be there, or cannot be read, are passed over."""
    page = world.metadata.query(keys.queue(environment.id), limit=LOOK_AHEAD)
    for entry in page.records:
        execution_id = str(entry.value["execution_id"])
        lease = find(world.metadata, Lease, keys.lease(execution_id))
        for execution in find_many(world.metadata, Execution, [keys.execution(execution_id)]):
            waits = execution.value.status is Status.QUEUED and queue_key(execution.value) == entry.key
            if lease and not lease.value.held and waits:
                return execution, lease, Stored(entry.key, entry.version, dict(entry.value))
    return None


def _grant(
    machine: Stored[Machine],
    execution: Stored[Execution],
    lease: Stored[Lease],
    entry: Stored[dict[str, str]],
    claim: Claim,
    environment: Environment,
    world: World,
) -> Offer:
    now = world.now()
    token = fresh_token("j")
    granted = replace(
        lease.value.granted(
            machine.value.id,
            generation=world.installation.generation,
            seconds=environment.lease_seconds,
            now=now,
        ),
        job_token_sha256=digest(token),
    )
    taken = execution.value.leased(granted.n, now)
    try:
        job = compose_job(taken, granted, token, world=world)
    except COMPOSING_FAULTS as error:
        # No machine could ever run it: it ends here, and does not hold up what waits behind it.
        why = error.told() if isinstance(error, LamplighterError) else f"{type(error).__name__}: {error}"
        ended = execution.value.ended(Status.ERROR, f"It cannot be run: {why}"[:500], now)
        world.metadata.transact(conclusion(execution, ended, lease, world))
        world.nudge()
        return Offer("wait", wait_seconds=0.0)
    world.metadata.transact(
        [
            machine.becomes(machine.value.working(taken.id, claim.claim_id, now)),
            execution.becomes(taken),
            lease.becomes(granted),
            entry.removed(),
            status_event(taken.id, f"Machine {_short(machine.value)} has taken the job (attempt {granted.n})", now),
            record(
                world,
                taken.organisation_id,
                f"machine {machine.value.id}",
                "execution.lease",
                taken.id,
                epoch=str(granted.epoch),
            ),
        ]
    )
    return Offer("work", job)


def _rest(stored: Stored[Machine], environment: Environment, world: World) -> Offer:
    """Nothing waits: go out after the idle time. A claim and a drain both write the machine, so only one of them wins."""
    machine, now = stored.value, world.now()
    idle_since = machine.idle_since or now
    if now - idle_since >= timedelta(seconds=environment.idle_seconds):
        world.metadata.transact(retirement(stored, f"idle for {environment.idle_seconds} s", world))
        world.nudge()
        return Offer("drain")
    if machine.last_seen is None or now - machine.last_seen >= SEEN_EVERY:
        world.metadata.transact([stored.becomes(replace(machine, last_seen=now, idle_since=idle_since))])
    return Offer("wait", wait_seconds=_pause(now - idle_since, world.installation))


def _pause(idle: timedelta, installation: Installation) -> float:
    """Until an idle machine asks again: whoever works step by step comes back within moments, or rather not at all."""
    if idle < SOON:
        return installation.poll_seconds
    return max(installation.poll_seconds, min(installation.longest_poll_seconds, idle.total_seconds() / PART))


def retirement(stored: Stored[Machine], because: str, world: World) -> list[Write]:
    """The writes that put a machine on its way out; its state machine does the rest."""
    machine = stored.value
    writes: list[Write] = [
        stored.becomes(replace(machine.retired(because), workflow_token=None)),
        record(world, machine.organisation_id, "lamplighter", "machine.retire", machine.id, because=because),
    ]
    if machine.workflow_token:
        writes.append(intend(world, "resume", token=machine.workflow_token, output={"reason": because}))
    return writes


def _short(machine: Machine) -> str:
    where = f" on {machine.hostname}" if machine.hostname else ""
    return f"{machine.id[-8:]}{where}"
