"""The stores under test with their servers, and somebody outside who uses what they sign."""

from __future__ import annotations

import hashlib
import io
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from adapters.stores.local_disk import LocalDiskStore
from adapters.stores.memory import MemoryStore
from adapters.stores.s3 import S3Store
from lamplighter.errors import AlreadyWritten, Forbidden, Invalid, LamplighterError, NotFound
from lamplighter.ports import Store, Target

MIB = 1024 * 1024
STATUS: dict[type[LamplighterError], int] = {Invalid: 400, Forbidden: 403, NotFound: 404, AlreadyWritten: 412}


@dataclass
class Answer:
    status: int
    body: bytes
    disposition: str | None = None


@dataclass
class Place:
    """A store, and somebody outside who holds nothing but the targets that it signed."""

    store: Store
    memory: MemoryStore | None = None

    def call(self, target: Target, body: bytes | None = None) -> Answer:
        if self.memory is not None:
            return call_in_memory(self.memory, target, body)
        request = urllib.request.Request(target.url, data=body, method=target.method, headers=dict(target.headers))
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.read(), answer.headers.get("Content-Disposition"))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read())


def call_in_memory(store: MemoryStore, target: Target, body: bytes | None) -> Answer:
    try:
        content = store.call(target, body or b"")
    except LamplighterError as error:
        return Answer(STATUS[type(error)], str(error).encode())
    return Answer(200, content, "attachment" if "filename=" in target.url else None)


class ObjectDoor(BaseHTTPRequestHandler):
    """The smallest HTTP door that can stand before a local store."""

    store: ClassVar[LocalDiskStore]

    def do_GET(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        url = urlsplit(self.path)
        try:
            key = unquote(url.path.removeprefix("/objects/"))
            call = self.store.verify(self.command, key, dict(parse_qsl(url.query)), datetime.now(UTC))
            content = self.receive(call.key, call.size) if call.size is not None else b"".join(self.store.get(call.key))
        except LamplighterError as error:
            self.send_error(STATUS[type(error)], str(error).replace("\n", " ")[:200])
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if call.content_disposition:
            self.send_header("Content-Disposition", call.content_disposition)
        self.end_headers()
        self.wfile.write(content)

    def receive(self, key: str, size: int) -> bytes:
        left = int(self.headers["Content-Length"])
        with self.store.writer(key, size) as upload:
            while left:
                piece = self.rfile.read(min(left, 64 * 1024))
                upload.write(piece)
                left -= len(piece)
        return b""

    def log_message(self, format: str, *args: Any) -> None:
        """Tests speak through their results."""


@contextmanager
def local_disk(root: Path) -> Iterator[LocalDiskStore]:
    """A store on disk with its door open on a free port."""

    class Door(ObjectDoor):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    store = LocalDiskStore(
        root,
        base_url=lambda: f"http://127.0.0.1:{server.server_port}/",
        signing_key=b"a key for this test only",
        clock=lambda: datetime.now(UTC),
    )
    Door.store = store
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the process listens; False when it ended instead."""
    while process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


def s3_store(url: str, **how: Any) -> S3Store:
    """A store in a new bucket of that server."""
    bucket = f"b-{uuid.uuid4()}"
    store = S3Store(bucket, endpoint_url=url, access_key_id="test", secret_access_key="test", **how)
    store._client.create_bucket(Bucket=bucket)
    return store


class Stream(io.RawIOBase):
    """A body that cannot be rewound, gives what it likes, and remembers how much was asked for at once."""

    def __init__(self, size: int, *, portion: int = MIB, fails_at: int | None = None) -> None:
        self.left = size
        self.portion = portion
        self.fails_at = fails_at
        self.largest_request = 0
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.largest_request = max(self.largest_request, size if size >= 0 else 2**62)
        if self.fails_at is not None and self.left <= self.fails_at:
            raise ConnectionResetError("the sender went away")
        count = min(self.portion, self.left, size if size >= 0 else self.left)
        self.left -= count
        piece = bytes([self.left % 251]) * count
        self.digest.update(piece)
        return piece


def body(stream: Stream) -> BinaryIO:
    return cast(BinaryIO, stream)
