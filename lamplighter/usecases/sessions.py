"""Who an agent is once it has registered: a session that dies with its machine, and a job token for user code."""

from __future__ import annotations

import hashlib
import re
import secrets

from lamplighter import keys
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import NotAuthenticated
from lamplighter.records import Stored, find
from lamplighter.world import World

_SESSION = re.compile(r"mls_([0-9a-f-]{36})\.[A-Za-z0-9_-]{43}")


def digest(text: str) -> str:
    """Tokens are kept as SHA-256 only."""
    return hashlib.sha256(text.encode()).hexdigest()


def fresh_token(kind: str) -> str:
    """256 random bits with a prefix that scanners recognise."""
    return f"ml{kind}_{secrets.token_urlsafe(32)}"


def fresh_session(machine_id: str) -> str:
    """256 random bits, with the name of the machine: whoever checks it reads that machine's record and no other. The name proves
    nothing; the digest in that record, of the whole text, does.
    """
    return f"mls_{machine_id}.{secrets.token_urlsafe(32)}"


def machine_of(session: str, *, world: World) -> Stored[Machine]:
    """The machine that this session proves. Raises `NotAuthenticated` once the machine is gone or has a newer session."""
    named = _SESSION.fullmatch(session)
    stored = find(world.metadata, Machine, keys.machine(named[1])) if named else None
    if (
        stored
        and stored.value.state is not MachineState.GONE
        and secrets.compare_digest(stored.value.session_sha256, digest(session))
    ):
        return stored
    raise NotAuthenticated("this session is over: power off")


def lease_of_job_token(execution_id: str, job_token: str, *, world: World) -> Lease:
    """The lease whose user code holds this token. Raises `NotAuthenticated` once the attempt is over."""
    stored = find(world.metadata, Lease, keys.lease(execution_id))
    if stored and stored.value.held and secrets.compare_digest(stored.value.job_token_sha256, digest(job_token)):
        return stored.value
    raise NotAuthenticated("this job token is not valid any more: the attempt it belongs to is over")
