"""Runs a step as a plain process, on a machine that has no container engine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lamplighter.contract.job import Job
from lamplighter.contract.job import Runtime as RuntimeName
from lamplighter.errors import Invalid
from lamplighter_worker.runtimes import DIRECTORIES, Ended, MachineFault, Prepared, Spec

TRAP = "trap 'exit 130' INT TERM"
"""First line of every script: the shell waits for the program that handles a signal, instead of dying before it."""

# The start is claimed by creating a file, so that of an agent that gives a start up and a wrapper that is late only one wins.
_WRAPPER = """
set -C
IFS= read -r line < /proc/$$/stat
{ printf '%s\\n' "$line" > "$1/start-$2"; } 2>/dev/null || exit 125
set +C
trap : INT TERM HUP
/bin/sh -c "$3"
code=$?
printf '%s\\n' "$code" > "$1/exit.new" && mv "$1/exit.new" "$1/exit"
"""
_GIVEN_UP = "given up\n"


class ProcessRuntime:
    """The script runs in its own session, in the run's directory, with an environment that holds nothing of the agent's."""

    name: RuntimeName = "process"
    detail = "plain processes"

    def visible(self, directory: Path) -> dict[str, str]:
        return {name: str(directory / name) for name in DIRECTORIES}

    def base_environment(self, directory: Path) -> dict[str, str]:
        path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        return {"PATH": path, "HOME": str(directory / "scratch"), "LANG": "C.UTF-8"}

    def gateway(self) -> str | None:
        return None

    def prepare(self, job: Job, say: Callable[[str], None], check: Callable[[], None]) -> Prepared:
        check()
        say(f"No container: on this machine steps run as plain processes, and the image {job.image} is not used.")
        return Prepared(interpreter=shutil.which("python3") or "/bin/sh")

    def start(self, spec: Spec) -> ProcessRun:
        directory = spec.directory
        script = f"{TRAP}\n{spec.job.script}"
        command = ["/bin/sh", "-c", _WRAPPER, "lamplighter", str(directory), str(spec.start), script]
        try:
            with (directory / "stdout").open("ab") as out, (directory / "stderr").open("ab") as err:
                process = subprocess.Popen(
                    command,
                    cwd=directory / "repository",
                    env=dict(spec.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
        except ValueError as e:
            raise Invalid.because(f"The step cannot be started: {e}") from e
        except OSError as e:
            if e.errno == 7:  # E2BIG
                raise Invalid.because("The step cannot be started: its command and environment are too long.") from e
            raise MachineFault(f"The step could not be started: {e}") from e
        return ProcessRun(spec, process.pid, _start_time(process.pid), process)

    def adopt(self, spec: Spec, say: Callable[[str], None]) -> ProcessRun | None:  # noqa: ARG002 - nothing to say
        claim = spec.directory / f"start-{spec.start}"
        with suppress(FileExistsError), claim.open("x") as file:
            file.write(_GIVEN_UP)
            return None
        for _ in range(100):
            if (text := claim.read_text()).endswith("\n"):
                break
            time.sleep(0.01)
        if text == _GIVEN_UP or not text.endswith("\n"):
            return None
        return ProcessRun(spec, int(text.split(" ", 1)[0]), _fields(text)[19], None)

    def sweep(self, machine_id: str, keep: str | None) -> None:
        """Plain processes are found by their run's directory, which the agent goes through itself."""


class ProcessRun:
    def __init__(self, spec: Spec, pid: int, start_time: str, process: subprocess.Popen[bytes] | None) -> None:
        self._spec = spec
        self._pid = pid
        self._start_time = start_time
        self._process = process
        self._killed = False
        self._seen_alive = process is not None

    def poll(self) -> Ended | None:
        alive = self._alive()
        code = self._exit_code()
        if code is None and alive:
            return None
        self.remove()
        if code is not None:
            return Ended(code)
        if self._killed:
            return Ended(137)
        returned = self._process.returncode if self._process is not None else None
        if returned == 125:
            return Ended(None, lost=True, note="the run was started by another agent on this machine")
        if returned:
            return Ended(137 if returned < 0 else returned)
        return Ended(None, lost=True, note="the run vanished: its process is gone and left no exit code")

    def signal(self, number: signal.Signals) -> None:
        if not self._alive():
            return
        self._killed = self._killed or number == signal.SIGKILL
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    def remove(self) -> None:
        """Also ends what the script left behind in its session, or moved into a session of its own."""
        marker = f"VH_JOB_ID=exec-{self._spec.job.execution_id}".encode()
        for _ in range(5):
            left = list(self._leftovers(marker))
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if self._process is not None and self._process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.5)
            if not left:
                return

    def _alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        alive = _start_time(self._pid) == self._start_time != ""
        self._seen_alive = self._seen_alive or alive
        return alive

    def _exit_code(self) -> int | None:
        try:
            return int((self._spec.directory / "exit").read_text())
        except (OSError, ValueError):
            return None

    def _leftovers(self, marker: bytes) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            with suppress(OSError, IndexError):
                fields = _fields((entry / "stat").read_text())
                if fields[0] in "ZX":
                    continue
                ours = self._seen_alive and fields[3] == str(self._pid)
                if ours or marker in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def _fields(stat: str) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; a program's name may hold anything, even brackets."""
    return stat.rpartition(")")[2].split()


def _start_time(pid: int) -> str:
    """When the process began, in clock ticks: tells it from a later one with the same number. Empty when it is gone."""
    try:
        fields = _fields(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
