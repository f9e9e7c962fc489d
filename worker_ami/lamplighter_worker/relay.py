"""Lets a container reach a control plane that listens on this machine's loopback only, and nothing of it but its own calls."""

from __future__ import annotations

import http.client
import ipaddress
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lamplighter_worker.link import PREFIX
from lamplighter_worker.rundir import RunDirectory
from lamplighter_worker.runtimes import Runtime

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MOST_REQUEST = 1024 * 1024
_MOST_REWRITTEN = 16 * 1024 * 1024
_CHUNK = 64 * 1024
_TIMEOUT = 60.0
_ASKED = ("Authorization", "Content-Type", "Accept", "Range", "If-Range", "If-None-Match", "User-Agent")
_ANSWERED = (
    "Content-Type",
    "Content-Length",
    "Content-Range",
    "Content-Disposition",
    "Accept-Ranges",
    "ETag",
    "Last-Modified",
)


class Relay:
    """Forwards `/api/worker/v0/executions/<this one>/job/...` and `/objects/...`; anything else is answered with 404."""

    def __init__(self, control_url: str, execution_id: str) -> None:
        self._parts = urlsplit(control_url)
        self._allowed = (f"{PREFIX}executions/{execution_id}/job/", "/objects/")
        self._server: ThreadingHTTPServer | None = None
        self._base = ""

    @classmethod
    def for_run(cls, control_url: str, runtime: Runtime, run: RunDirectory) -> Relay:
        """Listens when it is needed, where an earlier agent listened: the run has that address in its config."""
        relay = cls(control_url, run.state.job.execution_id)
        if _is_loopback(relay._parts.hostname or "") and (gateway := runtime.gateway()) is not None:
            port = relay.listen(gateway, run.state.relay_port)
            if port != run.state.relay_port:
                run.update(relay_port=port)
        return relay

    def listen(self, address: str, port: int = 0) -> int:
        """Starts to forward; gives the port."""
        import threading
        from http.server import ThreadingHTTPServer

        self._server = ThreadingHTTPServer((address, port), _handler(self))
        self._server.daemon_threads = True
        self._base = f"http://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="relay", daemon=True).start()
        return self._server.server_port

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def rewritten(self, value: Any) -> Any:
        """The same JSON value with the URLs of the control plane led through the relay."""
        if not self._base:
            return value
        if isinstance(value, str):
            return self._led_through(value)
        if isinstance(value, dict):
            return {key: self.rewritten(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.rewritten(item) for item in value]
        return value

    def _led_through(self, text: str) -> str:
        if not text.startswith(("http://", "https://")):
            return text
        try:
            parts = urlsplit(text)
            same = _is_loopback(parts.hostname or "") and parts.port == self._parts.port
        except ValueError:
            return text
        path = self._parts.path
        if not same or not parts.path.startswith(path + "/"):
            return text
        return f"{self._base}{parts.path[len(path) :]}" + (f"?{parts.query}" if parts.query else "")

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        """Answers one request of a container with the control plane's answer."""
        path = request.path
        length = request.headers.get("Content-Length", "0")
        if not self._allows(path):
            return request.send_error(404, "This address only serves the calls of the execution on this machine.")
        if not length.isdecimal() or int(length) > MOST_REQUEST or "Transfer-Encoding" in request.headers:
            _swallow(request, int(length) if length.isdecimal() else 0)
            return request.send_error(413, f"A request must say its length, and may have {MOST_REQUEST} bytes.")
        body = request.rfile.read(int(length)) if int(length) else None
        connection = self._connect()
        try:
            headers = {name: value for name in _ASKED if (value := request.headers.get(name))}
            connection.request(request.command, self._parts.path + path, body=body, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            connection.close()
            return request.send_error(502, "The control plane does not answer. Try again.")
        try:
            self._answer(request, response, rewrite=path.startswith(f"{self._allowed[0]}inputs/"))
        finally:
            connection.close()
        return None

    def _allows(self, path: str) -> bool:
        plain = path.partition("?")[0]
        parts = plain.split("/")
        return plain.startswith(self._allowed) and ".." not in parts and "%" not in plain[: len(self._allowed[0])]

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=_TIMEOUT)

    def _answer(self, request: BaseHTTPRequestHandler, response: http.client.HTTPResponse, rewrite: bool) -> None:
        headers = {name: value for name in _ANSWERED if (value := response.headers.get(name))}
        content: bytes | None = None
        if rewrite and response.status == 200:
            content = self._rewritten_text(response.read(_MOST_REWRITTEN))
            headers["Content-Length"] = str(len(content))
        request.send_response(response.status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Connection", "close")
        request.end_headers()
        if content is not None:
            request.wfile.write(content)
        while content is None and (chunk := response.read(_CHUNK)):
            request.wfile.write(chunk)

    def _rewritten_text(self, text: bytes) -> bytes:
        try:
            return json.dumps(self.rewritten(json.loads(text))).encode()
        except ValueError:
            return text


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    from http.server import BaseHTTPRequestHandler

    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT

        def forward(self) -> None:
            relay.forward(self)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def log_message(self, format: str, *args: Any) -> None:
            """Requests of user code are not the agent's news."""

    return Handler


def _swallow(request: BaseHTTPRequestHandler, length: int) -> None:
    """Reads some of a body that is refused: a client that is still sending would never see why."""
    left = min(length, 8 * MOST_REQUEST)
    while left > 0 and (chunk := request.rfile.read(min(left, _CHUNK))):
        left -= len(chunk)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
