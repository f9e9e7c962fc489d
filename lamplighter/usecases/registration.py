"""A machine comes in: with the join token that it was launched with, or with a proof that its cloud confirms."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from lamplighter import keys
from lamplighter.contract.report import Nonce, Proof, Register, Registered
from lamplighter.contract.wire import encode
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import Forbidden, NotAuthenticated, NotYet
from lamplighter.intents import intend, record
from lamplighter.ports import Write
from lamplighter.records import Stored, again_on_conflict, find
from lamplighter.usecases.machines import machine_by_cloud_id
from lamplighter.usecases.sessions import digest, fresh_session
from lamplighter.world import World

NONCE_LIFE = timedelta(minutes=5)

_NONCE = re.compile(r"([0-9]{16})\.([0-9a-f]{64})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_nonce(*, world: World) -> Nonce:
    """What a proof of the next five minutes must hold. Nothing is kept: it is the time, and that we have said so."""
    microseconds = f"{(world.now() - _EPOCH) // timedelta(microseconds=1):016d}"
    return Nonce(f"{microseconds}.{_seal(microseconds, world)}")


def register_machine(credential: str | Proof, hello: Register, *, world: World) -> Registered:
    """A session for a machine that was launched by us, has had no job and has not been put out.

    Repeatable until the first job, because an answer may be lost: with the same join token, or with a proof over a newer nonce
    each time. Every session stops to count when a newer one is made. A nonce is spent once a machine has registered with
    it, and so is every older one, so that a proof that was seen by somebody else is worth nothing.

    Raises `NotAuthenticated` for a wrong token or a proof that does not count, `NotYet` for a proven machine that is not (or
    not yet) known here, `Forbidden` when the machine was given up (it must power off), and whatever the identity raises.
    """
    if isinstance(credential, Proof):
        proven_at = _time_of(credential.nonce, world)
        cloud_id = _confirmed(credential, world)
        return _register_proven(credential.cloud, cloud_id, proven_at, hello, world)
    return _register_joined(credential, hello, world)


@again_on_conflict
def _register_joined(join_token: str, hello: Register, world: World) -> Registered:
    stored = find(world.metadata, Machine, keys.machine(hello.machine_id))
    join = world.metadata.get(keys.join(digest(join_token)))
    if not stored or not join or join.value != {"machine_id": hello.machine_id}:
        raise NotAuthenticated(f"machine {hello.machine_id} is not known under this join token")
    return _admit(stored, stored.value, hello, world)


@again_on_conflict
def _register_proven(cloud: str, cloud_id: str, proven_at: datetime, hello: Register, world: World) -> Registered:
    stored = machine_by_cloud_id(cloud, cloud_id, world=world)
    if not stored:
        raise NotYet(
            f"{cloud_id} has proven who it is, but no machine of this installation is known by that. Ask again."
        )
    if stored.value.proven_at and proven_at <= stored.value.proven_at:
        raise NotAuthenticated("This nonce, or a newer one, was used before. Ask for a fresh one.")
    return _admit(stored, replace(stored.value, proven_at=proven_at), hello, world)


def _admit(stored: Stored[Machine], machine: Machine, hello: Register, world: World) -> Registered:
    had_a_job = machine.state is MachineState.BUSY or machine.last_claim_id is not None
    if had_a_job or machine.state not in (MachineState.REQUESTED, MachineState.IDLE):
        why = machine.retired_because or "it has had a job"
        raise Forbidden(f"machine {machine.id} is {machine.state}: {why}. Power off.")
    session = fresh_session(machine.id)
    world.metadata.transact(_registration(stored, machine, hello, session, world))
    world.nudge()
    return Registered(
        session=session,
        heartbeat_seconds=world.installation.heartbeat_seconds,
        poll_seconds=world.installation.poll_seconds,
        deadman_seconds=world.installation.deadman_seconds,
        machine_id=machine.id,
    )


def _registration(
    stored: Stored[Machine], machine: Machine, hello: Register, session: str, world: World
) -> list[Write]:
    from_launch = machine.workflow_token if machine.state is MachineState.REQUESTED else None
    writes: list[Write] = [
        stored.becomes(_introduced(machine, hello, digest(session), world)),
        record(world, machine.organisation_id, f"machine {machine.id}", "machine.register", machine.id),
    ]
    if from_launch:
        writes.append(intend(world, "resume", token=from_launch, output={"registered_at": world.now().isoformat()}))
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


def _time_of(nonce: str, world: World) -> datetime:
    """When we made this nonce. Raises `NotAuthenticated` when it is not ours, or too old."""
    found = _NONCE.fullmatch(nonce)
    if not found or not hmac.compare_digest(found[2], _seal(found[1], world)):
        raise NotAuthenticated("This nonce is none of this installation. Ask for a fresh one.")
    made_at = _EPOCH + timedelta(microseconds=int(found[1]))
    if abs(world.now() - made_at) > NONCE_LIFE:
        raise NotAuthenticated("This nonce is too old. Ask for a fresh one.")
    return made_at


def _seal(microseconds: str, world: World) -> str:
    key = world.secrets.get("installation/join-key").encode()
    return hmac.new(key, f"nonce\n{world.installation.id}\n{microseconds}".encode(), hashlib.sha256).hexdigest()


def _confirmed(proof: Proof, world: World) -> str:
    identity = world.identities.get(proof.cloud)
    if not identity:
        raise NotAuthenticated(f"This installation cannot tell machines of the cloud {proof.cloud[:50]!r}.")
    return identity.cloud_id(encode(proof))
