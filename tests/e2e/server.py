"""A whole Lamplighter of its own: the real command in a process, on a free port, with all its state in one directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.e2e.api import Api, until
from tests.e2e.ports import free_port

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".cache" / "clients" / "bin"
LAMPLIGHTER = ROOT / ".venv" / "bin" / "lamplighter"
PASSWORD = "correct horse battery staple"


class RunningServer(Api):
    """`lamplighter up` on the loopback. `url`, `token` and the small REST calls are there once `start` has returned."""

    def __init__(
        self, state: Path, runtime: str, *options: str, idle_seconds: int = 60, env: dict[str, str] | None = None
    ) -> None:
        self.state = state
        self.runtime = runtime
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.log = state.with_name(f"{state.name}.log")
        self._options = ("--idle-seconds", str(idle_seconds), *options)
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningServer:
        """Ready when this returns. On the same state as before if there was one."""
        self.state.mkdir(parents=True, exist_ok=True)
        command = [str(LAMPLIGHTER), "up", "--host", "127.0.0.1", "--port", str(self.port), "--state", str(self.state)]
        command += ["--runtime", self.runtime, "--input-networks", "any", "--allow-private-git", *self._options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.state
            )
        until(self._answers, "the server answers", seconds=60)
        self.token = self.token or self._log_in()
        return self

    def kill(self) -> None:
        """As a power cut would, but agents and runs live on."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends the server, then whatever it has left behind."""
        self._end(signal.SIGTERM)
        for pid in self.machine_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.runtime == "docker":
            self._remove_containers()

    def restart(self, *, kill: bool = False) -> None:
        """The same state, the same port."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def machine_processes(self) -> list[int]:
        """Everything that runs for a machine of this server: supervisors, agents and the runs of users."""
        ours = os.fsencode(self.state)
        return [pid for pid, variables in _environments() if ours in variables and pid != self.pid]

    def agents(self) -> list[int]:
        """The agents alone, without their supervisors and without what they run."""
        return [pid for pid in self.machine_processes() if _is_agent(pid)]

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def tail(self, most: int = 20_000) -> str:
        """The end of what the server has said, and each agent."""
        texts = []
        for path in [self.log, *sorted(self.state.rglob("agent.log"))]:
            with suppress(OSError):
                text = path.read_text("utf-8", "replace")
                texts.append(f"--- {path} (last part)\n{text[-most:]}")
        return "\n".join(texts)

    # --- Below --------------------------------------------------------------------------------------------------

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server has ended with {self._process.returncode}:\n{self.tail()}"
        try:
            with urllib.request.urlopen(f"{self.url}/api/v0/server/", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _log_in(self) -> str:
        return str(self.post("/api/v0/get-token/", {"username": "admin", "password": PASSWORD})["token"])

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "DOCKER_HOST") if name in os.environ}
        path = os.pathsep.join([str(CLIENTS), os.environ.get("PATH", os.defpath)])
        return {**kept, "PATH": path, "LAMPLIGHTER_ADMIN_PASSWORD": PASSWORD, **self._env}

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def _remove_containers(self) -> None:
        homes = [home.name for place in self.state.rglob("machines") for home in place.iterdir() if place.is_dir()]
        for name in homes:
            listed = ["docker", "ps", "-aq", "--filter", f"label=lamplighter.machine={name}"]
            found = subprocess.run(listed, capture_output=True, text=True, timeout=60, check=False).stdout.split()
            if found:
                subprocess.run(["docker", "rm", "-f", *found], capture_output=True, timeout=60, check=False)


def _environments() -> Iterable[tuple[int, bytes]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                yield int(name), Path(f"/proc/{name}/environ").read_bytes()


def _is_agent(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return bool(re.search(rb"python[0-9.]*$", words[0])) and b"lamplighter_worker.main" in words
    return False
