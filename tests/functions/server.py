"""A real `lamplighter up` as a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-c", "from functions.local.cli import main; raise SystemExit(main())"]
ROOT = Path(__file__).resolve().parents[2]
READY = "Data "


def command(*arguments: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one `lamplighter` command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env=_environment(variables),
        cwd=ROOT,
        start_new_session=True,  # without a terminal that it could ask
    )


class Server:
    """Starts at once; `lines` is what it has printed until it was ready. Use as a context manager."""

    def __init__(self, state: Path, *arguments: str, **variables: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "up", "--state", str(state), "--port", "0", "--runtime", "process", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(variables),
            cwd=ROOT,
        )
        self.errors: list[str] = []
        assert self._process.stderr
        threading.Thread(target=lambda: self.errors.extend(self._process.stderr or ()), daemon=True).start()
        self.lines: list[str] = []
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line)
            if line.strip().startswith(READY):
                break
        found = re.search(r"Open +(http://[^/]+)/", "".join(self.lines))
        assert found, self.lines + self.errors
        self.url = found[1]

    @property
    def password(self) -> str | None:
        """The one that was made up and printed."""
        found = re.search(r"Password +(\S+)", "".join(self.lines))
        return found[1] if found else None

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, path: str, content: Any = None, *, token: str = "") -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        headers = {"Authorization": f"Token {token}"} if token else {}
        body = None
        if content is not None:
            body = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def log_in(self, password: str) -> str:
        status, answer = self.call("POST", "/api/v0/get-token/", {"username": "admin", "password": password})
        assert status == 200, answer
        return str(answer["token"])

    def send(self, path: str, pieces: Any, size: int, headers: Mapping[str, str]) -> tuple[int, Any]:
        """POST a body that is made while it is sent."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        connection.request("POST", path, pieces, {**headers, "Content-Length": str(size)})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, content

    def peak_memory(self) -> int:
        """The most bytes that were ever resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def stop(self) -> int:
        """Ask it to end; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        assert self._process.stdout
        self.lines += self._process.stdout.readlines()
        return self._process.wait(30)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAMPLIGHTER_")}
    return {**kept, **variables}
