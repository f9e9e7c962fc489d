"""Signed calls without an SDK: where they go, as whom, and over which connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from adapters.aws.calls import IDLE_SECONDS, JsonService, credentials_of_environment, endpoint_of
from adapters.aws.patience import Refused
from adapters.metadata.dynamodb import DynamoDbMetadata
from adapters.metadata.dynamodb_http import DynamoDbHttpMetadata
from lamplighter.contract.sigv4 import Credentials
from lamplighter.errors import Throttled, Unavailable
from lamplighter.ports import Key
from tests.conformance.dynamodb_between import Between, HungUp, Said, between
from tests.conformance.metadata_places import REGION, Table

MISSING = Key("p", "missing")


@pytest.fixture
def table(dynamodb_tables: Callable[[str, str], Table]) -> Table:
    return dynamodb_tables("signed calls", "DynamoDB Local")


@pytest.fixture
def middle(table: Table) -> Iterator[Between]:
    with between(table.url) as somebody:
        yield somebody


def service(url: str | None = None, credentials: Callable[[], Credentials] = credentials_of_environment) -> JsonService:
    return JsonService(
        "dynamodb",
        target="DynamoDB_20120810",
        version="1.0",
        region=REGION,
        endpoint_url=url,
        credentials=credentials,
        pause=lambda _seconds: None,
    )


@pytest.mark.parametrize(
    ("settings", "region", "address"),
    [
        ({}, "eu-west-1", "https://ssm.eu-west-1.amazonaws.com"),
        ({}, "cn-north-1", "https://ssm.cn-north-1.amazonaws.com.cn"),
        ({"AWS_ENDPOINT_URL": "http://all"}, "eu-west-1", "http://all"),
        ({"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SSM": "http://one"}, "eu-west-1", "http://one"),
    ],
)
def test_a_service_is_called_where_the_environment_says_or_in_its_region(
    settings: dict[str, str], region: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    assert endpoint_of("ssm", region) == address


@pytest.mark.parametrize("adapter", [DynamoDbMetadata, DynamoDbHttpMetadata])
@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_both_adapters_find_region_and_address_in_the_environment(
    adapter: type[DynamoDbMetadata] | type[DynamoDbHttpMetadata],
    name: str,
    table: Table,
    middle: Between,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv(name, "eu-north-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", middle.url)

    assert adapter(table.name).get(MISSING) is None

    assert "/eu-north-1/dynamodb/" in middle.headers[0]["Authorization"]


def test_without_credentials_or_a_region_it_says_which_variable_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(Unavailable, match="AWS_ACCESS_KEY_ID"):
        credentials_of_environment()
    with pytest.raises(Unavailable, match="AWS_REGION"):
        JsonService("ssm", target="AmazonSSM", version="1.1")


def test_renewed_credentials_are_used_at_once_and_secrets_never_travel(middle: Between) -> None:
    renewed = iter(
        [Credentials("KEYONE", "canary-secret", "token-1"), Credentials("KEYTWO", "canary-secret", "token-2")]
    )
    calls = service(middle.url, lambda: next(renewed))

    for _ in range(2):
        calls.call("ListTables", {})

    assert [headers["X-Amz-Security-Token"] for headers in middle.headers] == ["token-1", "token-2"]
    assert ["KEYONE/" in middle.headers[0]["Authorization"], "KEYTWO/" in middle.headers[1]["Authorization"]] == [
        True,
        True,
    ]
    assert "canary-secret" not in repr(middle.headers)


def test_calls_of_one_thread_share_a_connection_until_the_other_side_closes_it(middle: Between, aws_keys: None) -> None:
    calls = service(middle.url)
    middle.faults.extend([Said(200, {}), Said(200, {}), HungUp(), Said(200, {})])

    for _ in range(3):
        calls.call("ListTables", {}, repeatable=False)
    assert middle.closed.wait(10)
    calls.call("ListTables", {}, repeatable=False)

    ports = [port for _, port in middle.clients]
    assert ports[0] == ports[1] == ports[2] != ports[3]
    assert IDLE_SECONDS < 60


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (Said(400, {"__type": "x#ThrottlingException", "message": "slow"}), Throttled, "slowed down"),
        (Said(429, {}), Throttled, "slowed down"),
        (Said(503, {"message": "later"}), Unavailable, "their side"),
        (Said(400, {"__type": "x#ResourceNotFoundException", "message": "no table"}), Refused, "name and the region"),
        (Said(403, {"__type": "x#ExpiredTokenException", "message": "old"}), Refused, "renew the credentials"),
    ],
)
def test_every_failure_says_what_was_attempted_and_what_to_try(
    middle: Between, aws_keys: None, answer: Said, kind: type[Exception], text: str
) -> None:
    middle.faults.extend([answer] * 9)

    with pytest.raises(kind, match=f"ListTables at {middle.url}.*{text}"):
        service(middle.url).call("ListTables", {})
