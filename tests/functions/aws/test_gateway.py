"""What passes through the gateway, and what it does to it."""

from __future__ import annotations

import base64
import json

import pytest

from functions.aws import gateway
from functions.messages import Answer
from lamplighter.errors import Invalid
from tests.functions.aws.gateway_client import event


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/api/v0/projects/", "/api/v0/projects/"),
        ("/api/v0/projects", "/api/v0/projects/"),
        ("//api///v0/projects//", "/api/v0/projects/"),
        ("/api/v0/projects/a%20b/", "/api/v0/projects/a b/"),
        ("/api/v0/projects/50%25/", "/api/v0/projects/50%/"),
        ("/api/v0/projects/%2541/", "/api/v0/projects/%41/"),
        ("/", "/"),
    ],
)
@pytest.mark.parametrize(
    "host", ["abc123.execute-api.eu-north-1.amazonaws.com", "abc123.lambda-url.eu-north-1.on.aws", "ml.example.org"]
)
def test_a_path_is_decoded_once_whichever_way_it_came(target: str, path: str, host: str) -> None:
    assert gateway.head_of(event("GET", target, host=host)).path == path


def test_a_stage_is_no_part_of_the_path() -> None:
    assert gateway.head_of(event("GET", "/api/v0/server/", stage="prod")).path == "/api/v0/server/"
    assert gateway.head_of(event("GET", "/", stage="prod")).path == "/"
    assert gateway.head_of(event("GET", "/production/", stage="$default")).path == "/production/"


def test_the_query_comes_as_it_was_written_with_every_value() -> None:
    head = gateway.head_of(event("GET", "/x/?a=1&a=2&b=%C3%A9&c=&d=1%2B1+2"))

    assert head.query == {"a": ["1", "2"], "b": ["é"], "c": [""], "d": ["1+1 2"]}


def test_cookies_are_a_header_again_and_the_host_that_was_called_is_left_out() -> None:
    head = gateway.head_of(event("GET", "/", headers={"X-One": "1, 2"}, cookies=("a=1", "b=2")))

    assert (head.headers["cookie"], head.headers["x-one"], head.scheme) == ("a=1; b=2", "1, 2", "https")
    assert "host" not in head.headers


def test_more_headers_than_anybody_needs_are_refused() -> None:
    with pytest.raises(Invalid, match="at most 32768 are read"):
        gateway.head_of(event("GET", "/", headers={"x": "y" * 40_000}))


@pytest.mark.parametrize("body", [b"", b"{}", "größer ✓".encode(), b"\x00\xff\x1f\x8b"])
def test_a_body_arrives_as_it_was_sent(body: bytes) -> None:
    kind = "application/gzip" if b"\xff" in body else "application/json"

    assert gateway.body_of(event("POST", "/", body, {"content-type": kind})) == body


def test_a_body_that_is_not_the_base64_it_claims_to_be_is_refused() -> None:
    with pytest.raises(Invalid, match="not base64"):
        gateway.body_of({**event("POST", "/"), "body": "a", "isBase64Encoded": True})


@pytest.mark.parametrize(
    ("answer", "as_text"),
    [
        (Answer(200, b'{"a":"\\u00e9"}'), True),
        (Answer(200, b"\x1f\x8b\x00", headers={"Content-Encoding": "gzip"}), False),
        (Answer(200, "größer".encode(), "text/plain; charset=utf-8"), False),
        (Answer(200, b"\x1b[0m" * 1000, "text/plain"), False),
        (Answer(200, b'"' + b"x" * 2_000_000 + b'"'), False),
        (Answer(204), True),
    ],
)
def test_an_answer_goes_out_byte_for_byte(answer: Answer, as_text: bool) -> None:
    sent = gateway.response(event("GET", "/"), answer)

    body = sent["body"].encode() if as_text else base64.b64decode(sent["body"])
    assert (sent["isBase64Encoded"], body) == (not as_text, answer.body)
    assert len(json.dumps(sent)) < gateway.MAX_ANSWER_BYTES


def test_an_empty_answer_names_no_kind_and_head_has_the_headers_alone() -> None:
    nothing = gateway.response(event("DELETE", "/"), Answer(204))
    head = gateway.response(event("HEAD", "/"), Answer(200, b"{}"))

    assert "Content-Type" not in nothing["headers"]
    assert (head["body"], head["headers"]["Content-Type"]) == ("", "application/json")


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_what_fits_is_within_what_lambda_carries_and_hardly_less(kind: str) -> None:
    most = next(size for size in range(4_200_000, 4_000_000, -1000) if gateway.fits(Answer(200, b"x" * size, kind)))

    sent = gateway.response(event("GET", "/"), Answer(200, b"x" * most, kind))

    assert 5_400_000 < len(json.dumps(sent)) < 6 * 1024 * 1024
