"""Whatever its own description allows to be sent, the server never breaks and answers as it has described."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from functions import openapi
from tests.functions.conftest import House
from tests.functions.serving import serving

EXAMPLES = 8
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
UNTRIED = ("/objects/",)
"""A signed URL cannot be guessed: `test_objects` tries those."""

PATHS = sorted(
    (path, method)
    for path, methods in openapi.document()["paths"].items()
    for method in methods
    if not path.startswith(UNTRIED)
)


@pytest.mark.parametrize("group", range(4))
def test_no_request_that_the_description_allows_breaks_the_server(house: House, group: int) -> None:
    project = house.project()["id"]
    known = {"project_id": project, "reference": house.execution(project)["id"], "environment": "local"}
    headers = {"Authorization": f"Token {house.admin.token}"}

    with socket.create_server(("127.0.0.1", 0)) as listener, serving(house.application, listener) as address:
        schema = schemathesis.openapi.from_dict(openapi.document())
        schema.config.update(base_url=address)
        for path, method in PATHS[group::4]:
            _try(schema[path][method.upper()], headers, known)


def _try(operation: Any, headers: dict[str, str], known: dict[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), real=...)
    def one(case: Any, real: bool) -> None:
        if real:
            # Made-up ids end at the first look: half of the tries get behind it.
            case.path_parameters = {
                name: known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        case.call_and_validate(headers=headers, checks=CHECKS)

    one()
