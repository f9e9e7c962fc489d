"""Somebody between an adapter and DynamoDB who loses answers, or gives others."""

from __future__ import annotations

import http.client
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Lost:
    """The call is done, and its answer never arrives."""


@dataclass(frozen=True)
class HungUp:
    """The call is answered, and the connection then closed without a word, as after a long rest."""


@dataclass(frozen=True)
class Said:
    """The call is not done; this is answered instead."""

    status: int
    body: dict[str, Any]


Fault = Lost | HungUp | Said

SLOW_DOWN = Said(400, {"__type": "com.amazonaws.dynamodb#ProvisionedThroughputExceededException", "message": "slow"})
BROKEN = Said(500, {"__type": "com.amazon.coral.service#InternalServerError", "message": "broken"})
DENIED = Said(400, {"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "not authorized"})


def cancelled(*codes: str) -> Said:
    """A transaction that was cancelled for these reasons, one for each of its writes."""
    name = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
    return Said(
        400, {"__type": name, "message": "cancelled", "CancellationReasons": [{"Code": code} for code in codes]}
    )


class Between:
    """Forwards to `target`; the next calls meet `faults` in order, then all goes well. `calls` holds what was asked.

    `closed` is set once a connection was closed from this side.
    """

    def __init__(self, target: str) -> None:
        self.faults: deque[Fault] = deque()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.clients: list[tuple[str, int]] = []
        self._target = urlsplit(target).netloc
        self.closed = threading.Event()
        self.url = ""

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]

    def forward(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._target, timeout=60)
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content


@contextmanager
def between(target: str) -> Iterator[Between]:
    middle = Between(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            middle.calls.append((self.headers["X-Amz-Target"].rpartition(".")[2], json.loads(body)))
            middle.headers.append(dict(self.headers))
            middle.clients.append(self.client_address)
            fault = middle.faults.popleft() if middle.faults else None
            if isinstance(fault, Said):
                status, content = fault.status, json.dumps(fault.body).encode()
            else:
                status, content = middle.forward(body, dict(self.headers))
            self.close_connection = isinstance(fault, Lost | HungUp)
            if isinstance(fault, Lost):
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            middle.closed.set()

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    middle.url = f"http://127.0.0.1:{server.server_port}"
    yield middle
    server.shutdown()
    server.server_close()
