"""What the suites of several ports share: servers, each started once and only when a test needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lamplighter.ports import Metadata
from tests.conformance.metadata_places import ADAPTERS, KEYS, REGION, moto_server, new_table
from tests.emulators.dynamodb_local import DynamoDbLocal

Tables = Callable[[str, str], Metadata]


@pytest.fixture(scope="session")
def dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a DynamoDB Local."""
    with DynamoDbLocal(tmp_path_factory.mktemp("dynamodb-local")) as server:
        yield server.url


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a moto server."""
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region in the environment, as in a Lambda function."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def dynamodb_tables(request: pytest.FixtureRequest, aws_keys: None) -> Tables:
    """Makes an adapter, by its name, on a fresh table of a server, by its name."""

    def make(adapter: str, server: str) -> Metadata:
        url: str = request.getfixturevalue({"DynamoDB Local": "dynamodb_local", "moto": "moto"}[server])
        made: Metadata = ADAPTERS[adapter](new_table(url), region=REGION, endpoint_url=url)
        return made

    return make
