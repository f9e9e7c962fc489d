"""The description of the API is complete, sound, and the one in the repository."""

from __future__ import annotations

import json

from openapi_spec_validator import validate

from functions import openapi
from tests.functions.conftest import House


def test_the_description_in_the_repository_is_the_newest() -> None:
    assert openapi.SNAPSHOT.read_text() == openapi.text(), "run: python -m functions.openapi"


def test_the_description_is_valid_openapi() -> None:
    validate(openapi.document())


def test_every_route_is_described_under_an_operation_id_of_its_own(house: House) -> None:
    paths = openapi.document()["paths"]
    ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]

    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    assert {(r.method, r.openapi_path) for r in house.application.routes} <= described
    assert {("GET", "/objects/{key}"), ("PUT", "/objects/{key}")} <= described
    assert len(ids) == len(set(ids))


def test_every_private_operation_declares_its_scheme_and_its_refusals() -> None:
    lacking = [
        operation["operationId"]
        for path, methods in openapi.document()["paths"].items()
        for operation in methods.values()
        if operation["security"] and not {"400", "401", "404", "409", "503"} <= set(operation["responses"])
    ]

    assert lacking == []


def test_the_server_gives_its_description_to_anybody(house: House) -> None:
    reply = house.stranger.get("/api/openapi.json")

    assert reply.status == 200
    assert json.loads(reply.body)["openapi"].startswith("3.1")
