"""What the suites of several ports share: servers, each started once and only when a test needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.metadata_places import KEYS, Table, moto_server
from tests.emulators.dynamodb_local import DynamoDbLocal

Tables = Callable[[str, str], Table]


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
def dynamodb_tables(request: pytest.FixtureRequest, aws_keys: None, made_tables: dict[str, Table]) -> Iterator[Tables]:
    """Gives an empty table with an adapter, by its name, on a server, by its name."""
    given: list[Table] = []

    def give(adapter: str, server: str) -> Table:
        name = f"{adapter} on {server}"
        if name not in made_tables:
            url = request.getfixturevalue({"DynamoDB Local": "dynamodb_local", "moto": "moto"}[server])
            made_tables[name] = Table(adapter, url)
        given.append(made_tables[name])
        return given[-1]

    yield give
    for table in given:
        table.empty()


@pytest.fixture(scope="session")
def made_tables() -> dict[str, Table]:
    """Each adapter's table on each server, once it was asked for."""
    return {}
