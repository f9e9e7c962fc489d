"""Who an agent is: a join token that is spent once, a session that dies with its machine, a job token for user code."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace

from lamplighter import keys
from lamplighter.contract.report import Register, Registered
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import Forbidden, NotAuthenticated
from lamplighter.intents import intend, record
from lamplighter.ports import Write
from lamplighter.records import Stored, again_on_conflict, find, new
from lamplighter.world import World


def digest(text: str) -> str:
    """Tokens are kept as SHA-256 only."""
    return hashlib.sha256(text.encode()).hexdigest()


def fresh_token(kind: str) -> str:
    """256 random bits with a prefix that scanners recognise."""
    return f"ml{kind}_{secrets.token_urlsafe(32)}"


@again_on_conflict
def register_machine(join_token: str, hello: Register, *, world: World) -> Registered:
    """A session for a machine that was launched by us and has not been put out.

    Repeatable until the first job: a lost answer is answered with a new session, and the older one stops to count.
    Raises `NotAuthenticated` for a wrong token, `Forbidden` when the machine was given up: it must power off.
    """
    stored = find(world.metadata, Machine, keys.machine(hello.machine_id))
    join = world.metadata.get(keys.session(digest(join_token)))
    if not stored or not join or join.value != {"machine_id": hello.machine_id, "kind": "join"}:
        raise NotAuthenticated(f"machine {hello.machine_id} is not known under this join token")
    machine = stored.value
    if machine.state not in (MachineState.REQUESTED, MachineState.IDLE):
        raise Forbidden(
            f"machine {machine.id} is {machine.state}: {machine.retired_because or 'it has had a job'}. Power off."
        )
    session = fresh_token("s")
    writes = _registration(stored, hello, session, world)
    world.metadata.transact(writes)
    world.nudge()
    return Registered(
        session=session,
        heartbeat_seconds=world.installation.heartbeat_seconds,
        poll_seconds=world.installation.poll_seconds,
        deadman_seconds=world.installation.deadman_seconds,
    )


def _registration(stored: Stored[Machine], hello: Register, session: str, world: World) -> list[Write]:
    machine, now = stored.value, world.now()
    from_launch = machine.workflow_token if machine.state is MachineState.REQUESTED else None
    registered = _introduced(machine, hello, digest(session), world)
    writes: list[Write] = [
        stored.becomes(registered),
        new(keys.session(digest(session)), {"machine_id": machine.id, "kind": "session"}),
        record(world, machine.organisation_id, f"machine {machine.id}", "machine.register", machine.id),
    ]
    if machine.session_sha256:
        writes.extend(_forget_session(machine.session_sha256, world))
    if from_launch:
        writes.append(intend(world, "resume", token=from_launch, output={"registered_at": now.isoformat()}))
    return writes


def _introduced(machine: Machine, hello: Register, session_sha256: str, world: World) -> Machine:
    now = world.now()
    return replace(
        machine,
        state=MachineState.IDLE,
        runtime=hello.runtime,
        runtime_detail=hello.runtime_detail[:500],
        hostname=hello.hostname[:255],
        agent_version=hello.agent_version[:50],
        cpus=hello.cpus,
        memory_mib=hello.memory_mib,
        registered_at=machine.registered_at or now,
        last_seen=now,
        idle_since=machine.idle_since or now,
        session_sha256=session_sha256,
        workflow_token=None if machine.state is MachineState.REQUESTED else machine.workflow_token,
    )


def _forget_session(sha256: str, world: World) -> list[Write]:
    old = world.metadata.get(keys.session(sha256))
    return [Stored(old.key, old.version, old.value).removed()] if old else []


def machine_of(session: str, *, world: World) -> Stored[Machine]:
    """The machine that this session proves. Raises `NotAuthenticated` once the machine is gone or has a newer session."""
    found = world.metadata.get(keys.session(digest(session)))
    if found and found.value["kind"] == "session":
        stored = find(world.metadata, Machine, keys.machine(str(found.value["machine_id"])))
        if stored and stored.value.session_sha256 == digest(session) and stored.value.state is not MachineState.GONE:
            return stored
    raise NotAuthenticated("this session is over: power off")


def lease_of_job_token(execution_id: str, job_token: str, *, world: World) -> Lease:
    """The lease whose user code holds this token. Raises `NotAuthenticated` once the attempt is over."""
    stored = find(world.metadata, Lease, keys.lease(execution_id))
    if stored and stored.value.held and secrets.compare_digest(stored.value.job_token_sha256, digest(job_token)):
        return stored.value
    raise NotAuthenticated("this job token is not valid any more: the attempt it belongs to is over")
