"""What a machine reads of itself: only from its metadata service, with a token, and never for long."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from lamplighter_worker.metadata_service import MAX_ANSWER, MetadataService

from lamplighter.errors import Invalid, Unavailable
from tests.worker.metadata_double import Metadata

INSTANCE = "/latest/meta-data/instance-id"


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    running = Metadata({INSTANCE: "i-0123456789abcdef0"})
    yield running
    running.shutdown()
    running.server_close()


def test_a_value_is_read_with_a_token_that_is_kept(metadata: Metadata) -> None:
    service = MetadataService(metadata.url)

    assert [service.get(INSTANCE), service.get(INSTANCE)] == ["i-0123456789abcdef0"] * 2
    assert metadata.requests == [("PUT", "/latest/api/token"), ("GET", INSTANCE), ("GET", INSTANCE)]


def test_what_is_not_there_is_none(metadata: Metadata) -> None:
    assert MetadataService(metadata.url).get("/latest/meta-data/spot/instance-action") is None


def test_a_token_that_counts_no_more_is_replaced(metadata: Metadata) -> None:
    service = MetadataService(metadata.url)
    service.get(INSTANCE)
    metadata.forget_tokens()

    assert service.get(INSTANCE) == "i-0123456789abcdef0"


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_trouble_of_the_service_is_told_as_such(status: int, metadata: Metadata) -> None:
    metadata.status = status

    with pytest.raises(Unavailable, match=str(status)):
        MetadataService(metadata.url).get(INSTANCE)


def test_nobody_is_followed_to_another_place(metadata: Metadata) -> None:
    elsewhere = Metadata({INSTANCE: "i-of-somebody-else"})
    metadata.redirect = elsewhere.url + INSTANCE

    with pytest.raises(Unavailable, match="302"):
        MetadataService(metadata.url).get(INSTANCE)
    assert elsewhere.requests == []
    elsewhere.shutdown()
    elsewhere.server_close()


def test_a_proxy_of_the_environment_is_not_asked(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert MetadataService(metadata.url).get(INSTANCE) == "i-0123456789abcdef0"


def test_an_endless_answer_is_refused(metadata: Metadata) -> None:
    metadata.values[INSTANCE] = "i" * (MAX_ANSWER + 1)

    with pytest.raises(Unavailable, match="more than"):
        MetadataService(metadata.url).get(INSTANCE)


def test_a_service_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="No answer"):
        MetadataService("http://127.0.0.1:9").get(INSTANCE)


def test_a_service_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="No answer"):
        MetadataService(f"http://127.0.0.1:{silent.getsockname()[1]}").get(INSTANCE)


@pytest.mark.parametrize("address", ["https://169.254.169.254", "169.254.169.254", "http://"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(Invalid, match="no address of a metadata service"):
        MetadataService(address)


def test_the_address_may_be_named_as_for_the_tools_of_the_cloud(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)

    assert MetadataService.from_environment().get(INSTANCE) == "i-0123456789abcdef0"
