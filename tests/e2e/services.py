"""What a run needs around it, small and on the loopback: web files, git over HTTP, an S3 service, an image registry."""

from __future__ import annotations

import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.api import until
from tests.e2e.ports import free_port
from tests.e2e.server import ROOT


@contextmanager
def web_files(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serves `files` by path; gives the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            return

    with _serving(Handler) as url:
        yield url


@contextmanager
def git_host(root: Path) -> Iterator[str]:
    """Serves the bare repositories below `root` for reading, as every git host does; gives the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._cgi(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding", "") == "chunked":
                self._cgi(b"".join(self._chunks()))
            else:
                self._cgi(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def _cgi(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            asked = {
                "PATH": os.environ.get("PATH", os.defpath),
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_ADDR": "127.0.0.1",
            }
            answer = subprocess.run(
                ["git", "http-backend"], input=body, env=asked, capture_output=True, timeout=60, check=False
            )
            head, _, content = answer.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    with _serving(Handler) as url:
        yield url


def git(folder: Path, *words: str) -> str:
    """Runs git there with a name and nobody's settings; gives what it printed."""
    known = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=known, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


@contextmanager
def s3_service(folder: Path) -> Iterator[str]:
    """An S3-compatible service that forgets everything at its end; gives its URL."""
    port = free_port()
    command = [str(ROOT / ".venv" / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _daemon(command, folder / "s3.log"):
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(f"{url}/moto-api/"), "the S3 service answers", seconds=60)
        yield url


@contextmanager
def image_registry(folder: Path, username: str, password: str) -> Iterator[str]:
    """An image registry that wants a name and a password; gives its `host:port`."""
    port = free_port()
    made = subprocess.run(
        ["htpasswd", "-Bbn", username, password], capture_output=True, text=True, timeout=30, check=True
    )
    (folder / "htpasswd").write_text(made.stdout)
    (folder / "registry.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'images'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
        f"auth: {{htpasswd: {{realm: images, path: {folder / 'htpasswd'}}}}}\n"
    )
    with _daemon(["docker-registry", "serve", str(folder / "registry.yml")], folder / "registry.log"):
        until(lambda: _answers(f"http://127.0.0.1:{port}/"), "the registry answers", seconds=30)
        yield f"127.0.0.1:{port}"


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _daemon(command: list[str], log: Path) -> Iterator[None]:
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
