"""A server of the demo's own: the real `lamplighter up` on a free port, ended with everything it has started."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from client import CommandFailed

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class Server:
    """`url` and `password` hold once `start` has returned. `python` is where steps without a container find theirs."""

    def __init__(self, state: Path, runtime: str, *, python: Path) -> None:
        self.url = ""
        self.password = secrets.token_urlsafe(9)
        self._state = state
        self._runtime = runtime
        self._python = python
        self._log = state.parent / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises `CommandFailed` when the server does not answer in time."""
        path = os.environ.get("PATH", os.defpath)
        command = [str(Path(sys.executable).parent / "lamplighter"), "up", "--host", "127.0.0.1", "--port", "0"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--state", str(self._state), "--runtime", self._runtime],
                env={**os.environ, "LAMPLIGHTER_ADMIN_PASSWORD": self.password, "PATH": f"{self._python}:{path}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CommandFailed("the server did not start")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server, which puts its idle machines out, and then whatever still belongs to it."""
        if self._process:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        for attempt in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            left = list(self._left())
            if not left:
                break
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, attempt)
            time.sleep(0.5)
        if self._runtime == "docker":
            self._remove_containers()

    def tail(self) -> str:
        """The end of what the server and its machines have said."""
        texts = []
        for path in (self._log, *sorted(self._state.rglob("agent.log"))):
            with suppress(OSError):
                lines = path.read_text("utf-8", "replace").splitlines()[-15:]
                texts.append(f"--- the end of {os.path.relpath(path)}\n" + "\n".join(lines))
        return "\n".join(texts)

    def farewell(self) -> str:
        """Where the server is, how to get in, and how to end it."""
        pid = self._process.pid if self._process else 0
        return (
            f"\nThe server goes on:\n"
            f"   Open     {self.url}/   user admin, password {self.password}\n"
            f"   Log in   vh login --host {self.url} --username admin --password {self.password}\n"
            f"   Stop     kill {pid}\n"
            f"   Log      {os.path.relpath(self._log)}"
        )

    def _answers(self) -> bool:
        with suppress(OSError, ValueError, KeyError):
            self.url = json.loads((self._state / "lock").read_text())["url"]
            with urllib.request.urlopen(f"{self.url}/api/v0/server/", timeout=5) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 200)
        return False

    def _left(self) -> Iterator[int]:
        """Agents, their supervisors and their runs: their variables say which machine in our state folder they are."""
        ours = b"=" + os.fsencode(self._state) + b"/"
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            with suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if any(ours in v and v.startswith((b"LAMPLIGHTER_", b"VH_")) for v in variables):
                    yield int(entry.name)

    def _remove_containers(self) -> None:
        """Containers carry the id of their machine; the state folder names the machines."""
        for home in self._state.rglob("machines/*"):
            wanted = ["ps", "--all", "--quiet", "--filter", f"label=lamplighter.machine={home.name}"]
            found = subprocess.run(["docker", *wanted], capture_output=True, text=True, check=False).stdout.split()
            if found:
                subprocess.run(["docker", "rm", "--force", *found], capture_output=True, check=False)


def forget_old_states(demos: Path) -> None:
    """Remove what earlier demos have left, unless their server is still running."""
    for lock in demos.glob("*/state/lock"):
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f"  An earlier demo's server still runs: {lock.read_text().strip()}")
                continue
        shutil.rmtree(lock.parents[1], ignore_errors=True)
