"""Repositories, a real git server on loopback, and what the suites of git hosts ask of them."""

from __future__ import annotations

import base64
import io
import os
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lamplighter.errors import LamplighterError
from lamplighter.ports import GitCommit, GitHost

WHEN = "1700000000 +0000"


def git(place: Path, *arguments: str, text: bytes | None = None) -> str:
    """Runs git without any configuration but ours."""
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    env |= {f"GIT_{who}_{what}": v for who in ("AUTHOR", "COMMITTER") for what, v in WHO.items()}
    done = subprocess.run(["git", "-C", str(place), *arguments], env=env, input=text, capture_output=True, check=True)
    return done.stdout.decode().strip()


WHO = {"NAME": "Ada", "EMAIL": "ada@example.org", "DATE": WHEN}


class GitServer:
    """`git http-backend` behind a small web server on loopback; keeps what was asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str]] = []
        self.credential: tuple[str, str] | None = None
        self.answer: Callable[[str], tuple[int, dict[str, str], bytes] | None] = lambda _path: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._handle(b"")

            def do_POST(self) -> None:
                self._handle(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _handle(self, body: bytes) -> None:
                outer.asked.append((self.command, self.path))
                status, headers, data = outer.answer(self.path) or outer.backend(self, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def speak_tls(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def url(self, name: str = "project.git") -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def backend(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.credential:
            expected = "Basic " + base64.b64encode(":".join(self.credential).encode()).decode()
            if handler.headers.get("Authorization") != expected:
                return 401, {"WWW-Authenticate": 'Basic realm="git"'}, b""
        path, _, query = handler.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": handler.command,
            "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
        }
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False).stdout
        head, _, data = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return int(headers.pop("Status", "200").split()[0]), headers, data

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def commit(place: Path, message: str) -> None:
    git(place, "add", "-A")
    git(place, "commit", "-q", "--allow-empty", "-m", message)


def push(place: Path, server: GitServer) -> None:
    git(place, "push", "-q", "--mirror", str(server.root / "project.git"))


def archived(host: GitHost, url: str, found: GitCommit) -> bytes:
    target = io.BytesIO()
    host.archive(url, found, target)
    return target.getvalue()


def refusal(call: Callable[[], Any]) -> LamplighterError:
    with pytest.raises(LamplighterError) as refused:
        call()
    return refused.value
