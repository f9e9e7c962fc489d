"""A small HTTP server on loopback that serves and takes files, and misbehaves when told to."""

from __future__ import annotations

import re
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lamplighter_worker.transfer import Patience

from lamplighter.contract.job import Call

QUICK = Patience(attempts=4, first_delay=0.01, longest_delay=0.03, timeout=20.0)


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Answer:
    """What to do instead of the ordinary: an answer, or to break off after `cut` bytes of the body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None


class Server(ThreadingHTTPServer):
    """`files` are served, PUTs land there; `answers[path]` are used up first."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, deque[Answer]] = defaultdict(deque)
        self.seen: list[Seen] = []
        self.ranges = True
        self.before_put: Callable[[str], None] = lambda path: None
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def get(self, path: str, content: bytes | None = None) -> Call:
        """A call for `path`, which holds `content`."""
        if content is not None:
            self.files[path] = content
        return Call(self.origin + path)

    def put(self, path: str) -> Call:
        return Call(self.origin + path, "PUT")

    def requests(self, path: str) -> list[Seen]:
        with self.lock:
            return [request for request in self.seen if request.path.partition("?")[0] == path]


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self._note(b"")
        answer = self._special(path)
        if answer is not None and answer.cut is None:
            self._send(answer.status, dict(answer.headers), answer.body)
            return
        content = self.server.files.get(path)
        if content is None:
            self._send(404, {}, b"no such file")
            return
        tag = f'"{sha256(content).hexdigest()}"'
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        headers = {"ETag": tag} if self.server.ranges else {}
        status = 200
        if self.server.ranges and wanted and self.headers.get("If-Range") == tag:
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        self._send(status, headers, content, cut=answer.cut if answer else None)

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        path = self._note(body)
        self.server.before_put(path)
        answer = self._special(path)
        if len(body) < length:
            self.close_connection = True
            return
        if answer is not None:
            self._send(answer.status, dict(answer.headers), answer.body)
        elif path in self.server.files:
            self._send(412, {}, b"")
        else:
            self.server.files[path] = body
            self._send(200, {}, b"")

    def _note(self, body: bytes) -> str:
        with self.server.lock:
            self.server.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body))
        return self.path.partition("?")[0]

    def _special(self, path: str) -> Answer | None:
        with self.server.lock:
            answers = self.server.answers[path]
            return answers.popleft() if answers else None

    def _send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Tests look at `seen`."""
