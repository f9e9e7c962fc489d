"""Nobody gets in without the proof that a route asks for."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from functions.authentication import PUBLIC, scheme_of
from functions.resolver import Api
from functions.routes.base import new_router
from functions.routes.callers import Person
from tests.doubles import make_world
from tests.functions.conftest import House

EXPECTED = {
    "POST /api/worker/v0/register/": "Join",
    "POST /api/v0/get-token/": "Public",
    "GET /api/v0/server/": "Public",
    "GET /api/health/": "Public",
    "GET /api/openapi.json": "Public",
    "POST /api/worker/v0/nonce/": "Public",
}


def _expected(method: str, path: str) -> str:
    if path.startswith("/api/worker/v0/executions/<execution_id>/job/"):
        return "Job"
    everything_else = "Session" if path.startswith("/api/worker/") else "Token"
    return EXPECTED.get(f"{method} {path}", everything_else)


def test_every_route_asks_for_the_proof_it_should(house: House) -> None:
    found = {(r.method, r.path): scheme_of(r.method, r.path) for r in house.application.routes}

    assert len(found) > 50
    assert {key: scheme for key, scheme in found.items() if scheme != _expected(*key)} == {}
    assert set(PUBLIC) <= set(found)


MESSAGE = {
    "machine_id": "m",
    "agent_version": "1",
    "runtime": "process",
    "hostname": "h",
    "cpus": 1,
    "memory_mib": 1,
    "disk_free_mib": 1,
    "status_detail": "x",
}
"""A body that passes for a registration and for a status detail, whose tokens only the use case can judge."""


PROOF = (Path(__file__).parents[1] / "worker" / "recorded" / "Proof.json").read_bytes()


def _as_proof(content: bytes) -> str:
    return f"Proof {base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        "Token nonsense",
        "Session nonsense",
        "Join nonsense",
        "Job x",
        "Basic YTpi",
        "Token",
        "Proof",
        "Proof nonsense",
        _as_proof(b"{}"),
        _as_proof(b"[" * 6000),
        _as_proof(PROOF),
        _as_proof(PROOF + b" " * 8192),
    ],
)
def test_no_private_route_answers_without_valid_credentials(house: House, credentials: str | None) -> None:
    headers = {"authorization": credentials} if credentials else {}
    content = MESSAGE if credentials in ("Job x", "Join nonsense", _as_proof(PROOF)) else None
    statuses = {}

    for route in house.application.routes:
        if (route.method, route.path) not in PUBLIC:
            path = re.sub(r"<\w+>", "019b8d58-2400-7000-8000-000000000001", route.path)
            reply = house.stranger.call(route.method, path, content, headers=headers)
            statuses[f"{route.method} {route.path}"] = reply.status

    assert {route: status for route, status in statuses.items() if status != 401} == {}


def test_the_credentials_are_checked_before_the_body_is_read(house: House) -> None:
    chunks = [b"x" * 1000] * 5000

    reply = house.stranger.call("POST", "/api/v0/projects/p/import-package/", chunks=chunks)

    assert reply.status == 401
    assert house.stranger.read[-1] * 1000 < 4_300_000
    assert list(house.uploads.iterdir()) == []


def test_a_token_of_somebody_who_was_kept_out_is_worth_nothing(house: House) -> None:
    from lamplighter.usecases import people

    user = people.create_user(None, "ada", "a password of ada", world=house.world)
    _, text = people.create_token(user.id, "ci", world=house.world)
    house.stranger.token = text
    before = house.stranger.get("/api/v0/users/me/").status
    people.set_enabled(None, user.id, False, world=house.world)

    after = house.stranger.get("/api/v0/users/me/")

    assert (before, after.status) == (200, 401)
    assert set(after.json) == {"detail", "code"}


def test_a_route_whose_handler_expects_another_caller_cannot_be_mounted() -> None:
    router = new_router()

    @router.get("/api/health/")
    def wrong(call: Person) -> None:
        """Takes a person where anybody comes."""

    with pytest.raises(TypeError, match="another caller"):
        Api(make_world()).mount(router)
