"""What the S3 adapter does with a server that fails, knows less than S3, or is not there."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.stores.s3 import S3Store
from lamplighter.errors import AlreadyWritten, Forbidden, LamplighterError, NotFound, Throttled, TooLarge, Unavailable

MIB = 1024 * 1024


class ScriptedServer(BaseHTTPRequestHandler):
    """Speaks just enough S3 to be awkward: `refuses` decides which requests get which error."""

    objects: dict[str, bytes]
    refuses: Callable[[BaseHTTPRequestHandler], tuple[int, str] | None]
    seen: list[str]

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(f"{self.command} {query.split('=')[0]}".strip())
        refusal = type(self).refuses(self)
        if refusal:
            self.reply(refusal[0], f"<Error><Code>{refusal[1]}</Code><Message>scripted</Message></Error>".encode())
        elif self.command == "POST" and query.startswith("uploads"):
            self.reply(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        elif self.command == "POST":
            self.objects[path] = b"parts"
            self.reply(200, b"<CompleteMultipartUploadResult/>")
        elif self.command == "PUT":
            if "partNumber" not in query:
                self.objects[path] = sent
            self.reply(200, b"")
        elif self.command == "DELETE":
            self.reply(204, b"")
        else:
            found = self.objects.get(path)
            self.reply(404 if found is None else 200, found or b"")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests speak through their results."""


@contextmanager
def scripted(
    refuses: Callable[[BaseHTTPRequestHandler], tuple[int, str] | None],
) -> Iterator[tuple[S3Store, list[str]]]:
    """A store on a scripted server, and the requests that it makes."""
    seen: list[str] = []
    handler = type("Handler", (ScriptedServer,), {"objects": {}, "refuses": staticmethod(refuses), "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store_at(f"http://127.0.0.1:{server.server_port}"), seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def store_at(url: str) -> S3Store:
    from boto3.session import Session
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, signature_version="s3v4")
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return S3Store("bucket", client=Session().client("s3", endpoint_url=url, config=config, **credentials))


def put(store: S3Store, key: str, size: int = 7) -> None:
    store.put(key, io.BytesIO(b"x" * size), size=size)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (503, "SlowDown", Throttled),
        (429, "TooManyRequests", Throttled),
        (503, "ServiceUnavailable", Throttled),
        (500, "InternalError", Unavailable),
        (403, "AccessDenied", Forbidden),
        (403, "SignatureDoesNotMatch", Forbidden),
        (404, "NoSuchBucket", Unavailable),
        (400, "SomethingNew", Unavailable),
    ],
)
def test_every_failure_of_the_server_is_explained_as_one_of_ours(
    status: int, code: str, expected: type[LamplighterError]
) -> None:
    with scripted(lambda _: (status, code)) as (store, _):
        for call in (
            lambda: put(store, "key"),
            lambda: put(store, "key", 9 * MIB),
            lambda: store.get("key"),
            lambda: list(store.list("")),
            lambda: store.delete("key"),
        ):
            with pytest.raises(LamplighterError) as failure:
                call()
            # A HEAD is answered without a body, so that only its status is known there.
            assert failure.type is expected or (failure.type is NotFound and code == "NoSuchBucket")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = store_at(f"http://127.0.0.1:{port}")

    with pytest.raises(Unavailable, match=r"reading key.*address"):
        store.head("key")


@pytest.mark.parametrize("size", [7, 9 * MIB])
def test_a_server_without_conditional_writes_is_looked_at_before_writing(size: int) -> None:
    def refuses(request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        return (501, "NotImplemented") if request.headers.get("If-None-Match") else None

    with scripted(refuses) as (store, seen):
        put(store, "key", size)
        with pytest.raises(AlreadyWritten):
            put(store, "key", size)
        put(store, "other", size)

        target = store.presign_put("third", seconds=60, size=size)

    assert "HEAD" in seen
    assert "If-None-Match" not in target.headers
    assert "if-none-match" not in target.url


@pytest.mark.parametrize("size", [7, 9 * MIB])
def test_a_write_that_meets_another_is_not_called_written_unless_the_object_is_there(size: int) -> None:
    def refuses(request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        return (409, "ConditionalRequestConflict") if request.headers.get("If-None-Match") else None

    with scripted(refuses) as (store, _), pytest.raises(Unavailable, match="try again"):
        put(store, "key", size)


def test_parts_that_were_sent_are_given_up_when_the_upload_fails() -> None:
    def refuses(request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        return (500, "InternalError") if "partNumber=2" in request.path else None

    with scripted(refuses) as (store, seen), pytest.raises(Unavailable):
        put(store, "key", 20 * MIB)

    assert seen[-1] == "DELETE uploadId"


def test_a_signed_put_is_signed_with_its_length_and_its_condition() -> None:
    target = store_at("http://127.0.0.1:1").presign_put("a/b c", seconds=90, size=12)

    url = urlsplit(target.url)
    query = parse_qs(url.query)

    assert url.path == "/bucket/a/b%20c"
    assert query["X-Amz-SignedHeaders"] == ["content-length;host;if-none-match"]
    assert query["X-Amz-Expires"] == ["90"]
    assert target.headers["Content-Length"] == "12"
    assert target.headers["If-None-Match"] == "*"


def test_more_than_one_put_carries_is_refused_with_the_limit() -> None:
    store = store_at("http://127.0.0.1:1")

    assert store.presign_put("a", seconds=90, size=5 * 1024**3).method == "PUT"
    with pytest.raises(TooLarge, match=r"at most 5 GiB .* has 5368709121 bytes"):
        store.presign_put("a", seconds=90, size=5 * 1024**3 + 1)


def test_the_prefix_of_a_store_is_no_part_of_its_keys() -> None:
    client = store_at("http://127.0.0.1:1")._client

    url = S3Store("bucket", prefix="/team/one/", client=client).presign_get("key", seconds=60).url

    assert urlsplit(url).path == "/bucket/team/one/key"
