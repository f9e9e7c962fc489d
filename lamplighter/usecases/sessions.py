"""Who an agent is once it has registered: a session that dies with its machine, and a job token for user code."""

from __future__ import annotations

import hashlib
import secrets

from lamplighter import keys
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import NotAuthenticated
from lamplighter.records import Stored, find
from lamplighter.world import World


def digest(text: str) -> str:
    """Tokens are kept as SHA-256 only."""
    return hashlib.sha256(text.encode()).hexdigest()


def fresh_token(kind: str) -> str:
    """256 random bits with a prefix that scanners recognise."""
    return f"ml{kind}_{secrets.token_urlsafe(32)}"


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
