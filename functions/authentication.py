"""Who may call what: the one place where a request is let in. What is not listed here needs a person's token."""

from __future__ import annotations

import base64
import json
from typing import Literal

from functions.callers import AgentCall, Call, JobCall, JoinCall, PersonCall
from functions.messages import Head
from lamplighter.contract.report import Proof
from lamplighter.contract.wire import decode
from lamplighter.errors import Invalid, NotAuthenticated
from lamplighter.usecases import sessions
from lamplighter.world import World

Scheme = Literal["Public", "Token", "Join", "Session", "Job"]

PUBLIC = frozenset(
    {
        ("POST", "/api/v0/get-token/"),
        ("GET", "/api/v0/server/"),
        ("GET", "/api/health/"),
        ("GET", "/api/openapi.json"),
        ("POST", "/api/worker/v0/nonce/"),
    }
)
"""Routes, as declared, that answer anybody."""

MAX_TOKEN, MAX_PROOF = 500, 8192
"""Characters in the header. A proof carries the session token of a cloud's role, which has grown beyond 1 KB before."""

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
    header = head.headers.get("authorization", "")
    if scheme == "Join":
        return JoinCall(world, origin, head.path, query, credential=_introduction(header))
    token = _credentials(header, scheme)
    if scheme == "Job":
        return JobCall(world, origin, head.path, query, job_token=token)
    if scheme == "Session":
        stored = sessions.machine_of(token, world=world)
        return AgentCall(world, origin, head.path, query, session=token, stored=stored)
    from lamplighter.usecases import people  # a door for machines never asks who a person is

    return PersonCall(world, origin, head.path, query, principal=people.authenticate(token, world=world))


def _introduction(header: str) -> str | Proof:
    """A join token, or the proof that stands in for one. Raises `NotAuthenticated`."""
    if header.strip().partition(" ")[0].lower() != "proof":
        return _credentials(header, "Join")
    try:
        text = base64.b64decode(_credentials(header, "Proof", MAX_PROOF), validate=True)
        return decode(Proof, json.loads(text))
    except (ValueError, RecursionError, Invalid) as error:
        raise NotAuthenticated('"Authorization: Proof" takes the base64 of a proof as JSON.') from error


def _credentials(header: str, scheme: str, longest: int = MAX_TOKEN) -> str:
    if not header:
        raise NotAuthenticated(f'Send "Authorization: {scheme} <token>".')
    kind, _, token = header.strip().partition(" ")
    token = token.strip()
    if kind.lower() != scheme.lower() or not token or len(token) > longest or not token.isascii():
        raise NotAuthenticated(f'The Authorization header must read "{scheme} <token>".')
    return token
