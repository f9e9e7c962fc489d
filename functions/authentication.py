"""Who may call what: the one place where a request is let in. What is not listed here needs a person's token."""

from __future__ import annotations

from typing import Literal

from functions.callers import AgentCall, Call, JobCall, JoinCall, PersonCall
from functions.messages import Head
from lamplighter.errors import NotAuthenticated
from lamplighter.usecases import people, sessions
from lamplighter.world import World

Scheme = Literal["Public", "Token", "Join", "Session", "Job"]

PUBLIC = frozenset(
    {
        ("POST", "/api/v0/get-token/"),
        ("GET", "/api/v0/server/"),
        ("GET", "/api/health/"),
        ("GET", "/api/openapi.json"),
    }
)
"""Routes, as declared, that answer anybody."""

_WORKER = "/api/worker/"
_REGISTER = "/api/worker/v0/register/"
_JOB = "/api/worker/v0/executions/<execution_id>/job/"


def scheme_of(method: str, route: str) -> Scheme:
    """Which proof a route asks for, by the path it was declared with."""
    if (method, route) in PUBLIC:
        return "Public"
    if not route.startswith(_WORKER):
        return "Token"
    if route == _REGISTER:
        return "Join"
    return "Job" if route.startswith(_JOB) else "Session"


def authenticate(scheme: Scheme, head: Head, origin: str, *, world: World) -> Call:
    """The call with its proven caller. Raises `NotAuthenticated`."""
    query = head.query
    if scheme == "Public":
        return Call(world, origin, head.path, query)
    token = _credentials(head.headers.get("authorization", ""), scheme)
    if scheme == "Join":
        return JoinCall(world, origin, head.path, query, join_token=token)
    if scheme == "Job":
        return JobCall(world, origin, head.path, query, job_token=token)
    if scheme == "Session":
        stored = sessions.machine_of(token, world=world)
        return AgentCall(world, origin, head.path, query, session=token, stored=stored)
    return PersonCall(world, origin, head.path, query, principal=people.authenticate(token, world=world))


def _credentials(header: str, scheme: Scheme) -> str:
    if not header:
        raise NotAuthenticated(f'Send "Authorization: {scheme} <token>".')
    kind, _, token = header.strip().partition(" ")
    token = token.strip()
    if kind.lower() != scheme.lower() or not token or len(token) > 500 or not token.isascii():
        raise NotAuthenticated(f'The Authorization header must read "{scheme} <token>".')
    return token
