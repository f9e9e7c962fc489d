"""The wire: outages are waited out, refusals are believed only from the control plane itself."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from lamplighter_worker.link import LONGEST_DELAY, MAX_ANSWER, Link, backoff

from lamplighter.contract.report import Claim, Offer
from lamplighter.errors import (
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    SequenceGap,
    StaleEpoch,
    TooLarge,
    Unavailable,
)

Answer = tuple[int, bytes]

GZIP_MAGIC = b"\x1f\x8b"
WAIT = (200, b'{"order": "wait"}')


class Scripted(ThreadingHTTPServer):
    """Gives the answers in turn; a status of 0 closes the connection instead."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str]] = []
        self.connections = 0
        self.accepted = ""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Closed connections are meant."""


class _Handler(BaseHTTPRequestHandler):
    server: Scripted
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["Authorization"]))
        self.server.accepted = self.headers["Accept-Encoding"]
        status, body = self.server.answers.pop(0)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if body.startswith(GZIP_MAGIC):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    running = Scripted()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def link(server: Scripted) -> Link:
    made = Link(f"http://127.0.0.1:{server.server_port}/base/")
    made.session = "s"
    return made


def ask(link: Link, **more: Any) -> Offer:
    return link.post("lease/", Claim("c"), Offer, wait=lambda _: None, **more)


def test_a_call_goes_to_the_worker_api_with_the_session(server: Scripted, link: Link) -> None:
    server.answers = [WAIT]

    assert ask(link).order == "wait"
    assert server.requests == [("/base/api/worker/v0/lease/", "Session s")]


@pytest.mark.parametrize(
    "bad",
    [
        (503, b""),
        (500, b'{"code": "internal"}'),
        (429, b""),
        (404, b"<html>"),
        (302, b""),
        (200, b"<html>"),
        (200, b'{"order": 1}'),
        (0, b""),
        (200, GZIP_MAGIC + b"no more of it"),
        (200, gzip.compress(WAIT[1])[:-9]),
    ],
)
def test_what_is_no_answer_of_the_control_plane_is_asked_again(bad: Answer, server: Scripted, link: Link) -> None:
    server.answers = [bad, bad, bad, WAIT]

    assert ask(link, until=lambda: False).order == "wait"


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "not_authenticated", NotAuthenticated),
        (403, "forbidden", Forbidden),
        (404, "not_found", NotFound),
        (409, "stale_epoch", StaleEpoch),
        (400, "invalid", Invalid),
        (413, "too_large", TooLarge),
        (413, "answer_too_large", TooLarge),
    ],
)
def test_a_refusal_is_not_repeated(
    status: int, code: str, error: type[Exception], server: Scripted, link: Link
) -> None:
    server.answers = [(status, json.dumps({"code": code, "message": "no"}).encode())]

    with pytest.raises(error):
        ask(link, until=lambda: False)


@pytest.mark.parametrize("body", [b"", b'{"message": "Request Entity Too Large"}', b"<html>"])
def test_what_nobody_on_the_way_carries_is_not_sent_again_and_told_with_its_size(
    body: bytes, server: Scripted, link: Link
) -> None:
    server.answers = [(413, body)]

    with pytest.raises(TooLarge, match=r"^lease/: 17 bytes are more than is carried to http"):
        ask(link, until=lambda: False)


def test_an_answer_may_come_packed(server: Scripted, link: Link) -> None:
    server.answers = [(200, gzip.compress(WAIT[1]))]

    assert ask(link).order == "wait"
    assert server.accepted == "gzip"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_answer_without_end_is_not_asked_for_again(
    pack: Callable[[bytes], bytes], server: Scripted, link: Link
) -> None:
    server.answers = [(200, pack(b" " * (MAX_ANSWER + 2)))]

    with pytest.raises(TooLarge, match="more than 67108864 bytes"):
        ask(link, until=lambda: False)


def test_a_gap_says_what_is_expected(server: Scripted, link: Link) -> None:
    server.answers = [(409, b'{"code": "sequence_gap", "message": "", "expected": 17}')]

    with pytest.raises(SequenceGap) as raised:
        ask(link)
    assert raised.value.expected == 17


def test_a_refusal_by_fields_is_readable(server: Scripted, link: Link) -> None:
    message = json.dumps({"inputs": ["no such file"], "non_field_errors": [{"message": "try again", "code": "x"}]})
    server.answers = [(400, json.dumps({"code": "invalid", "message": message}).encode())]

    with pytest.raises(Invalid, match=r"^inputs: no such file; try again$"):
        ask(link)


def test_a_refusal_within_a_field_is_named_by_its_path(server: Scripted, link: Link) -> None:
    message = json.dumps({"inputs": {"i": ["no host gone", {"message": "ask for another", "code": "x"}]}, "code": "7"})
    server.answers = [(400, json.dumps({"code": "invalid", "message": message}).encode())]

    with pytest.raises(Invalid, match=r"^inputs\.i: no host gone; inputs\.i: ask for another; code: 7$"):
        ask(link)


def test_without_patience_there_is_one_attempt(server: Scripted, link: Link) -> None:
    server.answers = [(503, b""), WAIT]

    with pytest.raises(Unavailable):
        ask(link)


def test_a_connection_is_kept_and_one_that_died_idle_is_replaced_at_once(server: Scripted, link: Link) -> None:
    server.answers = [WAIT, WAIT, (0, b""), WAIT]
    ask(link)
    ask(link)
    assert server.connections == 1

    assert ask(link).order == "wait"
    assert server.connections == 2


def test_a_control_plane_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="No answer from"):
        ask(Link("http://127.0.0.1:9"))


@pytest.mark.parametrize("url", ["ftp://x", "ml.example.org", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="no control plane address"):
        Link(url)


def test_waits_grow_and_stay_bounded() -> None:
    assert all(0 < backoff(attempt) <= LONGEST_DELAY for attempt in range(2000))
    assert max(backoff(0) for _ in range(100)) <= 0.2
