"""Starts the agent as the process that it is, and waits for what is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.worker.control_double import Control, Execution

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


class Agent:
    """An agent with its directory; it may be killed and started again."""

    def __init__(self, control: Control, directory: Path, runtime: str, *, uid: int | None = None) -> None:
        self.control = control
        self.directory = directory
        self.runtime = runtime
        self.log = directory.with_name(directory.name + ".log")
        self.machine_id = f"machine-{directory.name}-{os.getpid()}-{control.server_port}"
        token = directory.with_name("join-token")
        token.write_text(control.join_token + "\n")
        self.introduction = ["--machine-id", self.machine_id, "--join-token-file", str(token)]
        self.variables: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lamplighter_worker.main", "run"]
        command += ["--control-url", self.control.url, "--dir", str(self.directory), "--runtime", self.runtime]
        command += [*self.introduction, *more]
        path = os.pathsep.join([str(ROOT), str(ROOT / "worker_ami")])
        environment = {**os.environ, "PYTHONPATH": path, "AGENT_SECRET": "must-not-be-seen", **self.variables}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd="/")
        return self.process

    def kill(self) -> None:
        """As the kernel does it: nothing is told, nothing is tidied."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def wait(self) -> int:
        """The exit code."""
        assert self.process is not None
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent does not end:\n{self.log.read_text()}") from None

    def rss_kib(self, key: str = "VmRSS") -> int:
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(key)).split()[1])

    def until(self, holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}:\n{self.log.read_text()}\n{self.told()}")
            time.sleep(0.01)

    def until_finished(self, execution: Execution) -> None:
        self.until(lambda: execution.finish is not None, "the end to be told")
        assert self.control.faults == []

    def told(self) -> str:
        return "\n".join(
            f"{e.finish}\n{[line[2][:200] for line in e.lines[-20:]]}" for e in self.control.executions.values()
        )
