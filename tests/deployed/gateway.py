"""What stands before the API in the world: an address of its own, and the gateway's limits, which the emulator does not keep."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

MOST_BYTES = 10 * 1024 * 1024
"""An HTTP API takes no more (https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html)."""

_HOP = frozenset({"connection", "host", "keep-alive", "transfer-encoding", "content-length", "date", "server"})


class Gateway:
    """Passes each request on to the API `api_id` of the emulator at `emulator`, under its host name there.

    It listens on `address`, where machines reach it too. Start it before the stack is there, for its address; give `api_id`
    later. `refusals` are the latest, for stories that fail.
    """

    def __init__(self, address: str, emulator: str) -> None:
        self.api_id = ""
        self.refusals: deque[str] = deque(maxlen=50)
        self._server = ThreadingHTTPServer((address, 0), _handler(self, emulator))
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(gateway: Gateway, emulator: str) -> type[BaseHTTPRequestHandler]:
    there = urlsplit(emulator).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            if length > MOST_BYTES:
                self._answer(413, {}, b'{"message":"Request Entity Too Large"}')
                return
            port = there.partition(":")[2]
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            headers["Host"] = f"{gateway.api_id}.execute-api.localhost:{port}"
            connection = http.client.HTTPConnection(there, timeout=60)
            try:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                connection.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = pass_on

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if status >= 400:
                gateway.refusals.append(f"{self.command} {self.path}: {status} {body[:500]!r}")
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler
