"""A machine's metadata service on loopback: version 2 only, and strict about it."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sts_double import REGION, ROLE, Caller

ROLE_PATH = "/latest/meta-data/iam/security-credentials/"


def told_to(caller: Caller) -> dict[str, str]:
    """What the metadata service of this instance holds."""
    keys = caller.credentials
    credentials = {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": keys.access_key_id,
        "SecretAccessKey": keys.secret_access_key,
        "Token": keys.session_token,
        "Expiration": "2030-01-01T00:00:00Z",
    }
    return {
        "/latest/meta-data/instance-id": caller.user_id.rpartition(":")[2],
        "/latest/meta-data/placement/region": REGION,
        ROLE_PATH: ROLE,
        f"{ROLE_PATH}{ROLE}": json.dumps(credentials),
    }


class Metadata(ThreadingHTTPServer):
    """Answers what `values` holds by path. `status` is answered to every GET instead of 200; `redirect` sends each away."""

    daemon_threads = True

    def __init__(self, values: Mapping[str, str] | None = None, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, _Handler)
        self.url = f"http://{address[0]}:{self.server_port}"
        self.values = dict(values or {})
        self.tokens: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.status = 200
        self.redirect = ""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def forget_tokens(self) -> None:
        """As when the service was started anew."""
        self.tokens.clear()


class _Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self.server.requests.append(("PUT", self.path))
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not seconds.isdecimal() or not 1 <= int(seconds) <= 21600:
            self._answer(400, "")
            return
        token = secrets.token_urlsafe(40)
        self.server.tokens.add(token)
        self._answer(200, token)

    def do_GET(self) -> None:
        self.server.requests.append(("GET", self.path))
        if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
            self._answer(401, "")
        elif self.server.redirect:
            self._answer(302, "", Location=self.server.redirect)
        elif self.server.status != 200:
            self._answer(self.server.status, "trouble")
        elif self.path in self.server.values:
            self._answer(200, self.server.values[self.path])
        else:
            self._answer(404, "<html>not found</html>")

    def _answer(self, status: int, text: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""
