"""Machines that are processes on this server: each an agent in a directory of its own, restarted when it falls."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamplighter.errors import LaunchRefused, NotYet, Unavailable
from lamplighter.ports import CloudMachine, LaunchRequest

RESTARTS = 20
GRACE_SECONDS = 10.0
MAX_LOG_BYTES = 8 * 1024 * 1024
REMEMBERED = 50

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LABEL = "lamplighter.machine"
_COUNTS = ("cache_mib", "idle_power_off_seconds")

# Its standard input is the machine's lock, held for as long as it lives; the agent does not get it. It says who it is
# before it does anything, and does nothing if the machine's end has been decided meanwhile.
_SUPERVISOR = """
[ -e ending ] && exit 0
read -r stat < /proc/$$/stat
pid=$$
restarts=$1
shift
rest=${stat##*) }
start=$(set -- $rest; echo "${20}")
printf '{"pid": %s, "start_time": %s}\\n' "$pid" "$start" > supervisor.json.new
mv supervisor.json.new supervisor.json
while :; do
    "$@" < /dev/null >> agent.log 2>&1 && exit 0
    [ -e ending ] && exit 0
    [ "$restarts" -gt 0 ] || exit 1
    restarts=$((restarts - 1))
    sleep 0.5
done
"""


@dataclass(frozen=True, slots=True, order=True)
class _Process:
    """A process, told from a later one with the same number by its start."""

    pid: int
    start_time: int


class LocalCloud:
    """Implements `Cloud` on one Linux server. `directory` is this cloud's own; several processes may share it.

    `python` runs the agent; with `worker_command` that command is run in its place, with the same arguments. An agent that
    ends with 0 has powered off: its machine is gone. One that falls is started again, 20 times.

    Options: `runtime` (auto, docker, process), `input_networks` (public, private, any), and the whole numbers `cache_mib`
    and `idle_power_off_seconds`; others are ignored.
    """

    def __init__(
        self,
        directory: Path,
        *,
        python: str = sys.executable,
        worker_command: Sequence[str] | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._machines = directory.absolute() / "machines"
        self._tokens = directory.absolute() / "tokens"
        self._gone = directory.absolute() / "gone"
        self._command = tuple(worker_command or (python, "-P", "-m", "lamplighter_worker.main"))
        self._grace = grace_seconds
        self._children: list[subprocess.Popen[bytes]] = []
        for place in (self._machines, self._tokens, self._gone):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def launch(self, request: LaunchRequest) -> CloudMachine:
        """As the port says; may be repeated after a crash at any point. A token of another machine is `LaunchRefused`."""
        _check(request)
        with _disk("launch", request.machine_id):
            self._claim(request)
            home = self._machines / request.machine_id
            if self._is_gone(request.machine_id):
                return self._seen(request.machine_id, "gone")
            home.mkdir(mode=0o700, exist_ok=True)
            with _lock(home) as lock:
                # Who holds the lock is a supervisor, or is about to start one.
                if lock is not None and not (home / "supervisor.json").exists() and not (home / "ending").exists():
                    self._start(home, request, lock)
            if self._is_gone(request.machine_id):
                return self._seen(request.machine_id, "gone")
            return self._look(request.machine_id, _census(self._machines))

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        """As the port says. Gone machines are told of while their log is kept: the newest 50."""
        with _disk("describe", installation):
            self._reap()
            self._prune()
            census = _census(self._machines)
            machines = []
            for home in sorted(self._machines.iterdir()):
                facts = _read(home / "request.json") or _read(self._gone / home.name)
                if facts.get("installation") != installation:
                    continue
                machine = self._look(home.name, census)
                if machine.state != "gone":
                    _trim(home / "agent.log")
                machines.append(machine)
            return tuple(machines)

    def terminate(self, machine_id: str) -> None:
        """As the port says: asks politely first, and with force when `grace_seconds` have passed."""
        home = self._machines / machine_id
        if not _ID.fullmatch(machine_id) or self._is_gone(machine_id) or not home.is_dir():
            return
        with _disk("terminate", machine_id):
            self._reap()
            mark = home / "ending"
            with suppress(FileExistsError):
                mark.touch(exist_ok=False)
            patient = time.time() < mark.stat().st_mtime + self._grace
            left = _all_of(home, _census(self._machines).get(machine_id, set()))
            for process in sorted(left):
                _signal(process, signal.SIGTERM if patient else signal.SIGKILL)
            containers = _containers(home)
            if containers:
                _docker("rm", "-f", *containers)
            _await_end(left, 0.5)
            self._reap()
            if not self._settle(machine_id, "terminated"):
                raise NotYet(f"machine {machine_id} has not ended: {len(left)} processes were told to")

    def _claim(self, request: LaunchRequest) -> None:
        """Tie the token to the machine, for ever."""
        token = self._tokens / hashlib.sha256(request.launch_token.encode()).hexdigest()
        with suppress(FileExistsError):
            _write_once(token, request.machine_id)
        owner = token.read_text()
        if owner != request.machine_id:
            raise LaunchRefused(
                f"this launch token started machine {owner}, not {request.machine_id}: make a new token"
            )
        claims = self._tokens / f"machine-{request.machine_id}"
        with suppress(FileExistsError):
            _write_once(claims, token.name)
        if claims.read_text() != token.name:
            raise LaunchRefused(f"machine {request.machine_id} was launched under another token: make a new machine id")

    def _start(self, home: Path, request: LaunchRequest, lock: int) -> None:
        _write(home / "join-token", request.join_token)
        facts = {
            "installation": request.installation,
            "environment": request.environment,
            "control_url": request.control_url,
            "options": dict(request.options),
        }
        _write(home / "request.json", json.dumps(facts))
        self._reap()
        self._children.append(
            subprocess.Popen(
                [
                    "/bin/sh",
                    "-c",
                    _SUPERVISOR,
                    "lamplighter-machine",
                    str(RESTARTS),
                    *self._command,
                    *_arguments(home, request),
                ],
                cwd=home,
                env=_environment(home),
                stdin=lock,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def _look(self, machine_id: str, census: Mapping[str, set[_Process]]) -> CloudMachine:
        home = self._machines / machine_id
        if self._is_gone(machine_id):
            return self._seen(machine_id, "gone")
        if not (home / "supervisor.json").exists():
            return self._seen(machine_id, "starting")
        if not census.get(machine_id) and self._settle(machine_id, "the agent ended"):
            return self._seen(machine_id, "gone")
        return self._seen(machine_id, "running")

    def _seen(self, machine_id: str, state: Any) -> CloudMachine:
        detail = str(_read(self._gone / machine_id).get("detail", "")) if state == "gone" else ""
        return CloudMachine(machine_id, f"local:{machine_id}", state, detail)

    def _is_gone(self, machine_id: str) -> bool:
        return (self._gone / machine_id).exists()

    def _settle(self, machine_id: str, detail: str) -> bool:
        """Write down that the machine is gone and remove its data; false if something of it is still there."""
        home = self._machines / machine_id
        with _lock(home) as lock:
            if lock is None or _all_of(home, _census(self._machines).get(machine_id, set())) or _containers(home):
                return False
            facts = {"installation": _read(home / "request.json").get("installation"), "detail": detail}
            _write(self._gone / machine_id, json.dumps(facts))
            _clear(home)
        return True

    def _prune(self) -> None:
        gone = [home for home in self._machines.iterdir() if self._is_gone(home.name)]
        gone.sort(key=lambda home: (self._gone / home.name).stat().st_mtime_ns)
        for home in gone[:-REMEMBERED]:
            shutil.rmtree(home, ignore_errors=True)

    def _reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]


# --- Starting -------------------------------------------------------------------------------------------------------


def _check(request: LaunchRequest) -> None:
    if not _ID.fullmatch(request.machine_id):
        raise LaunchRefused(
            f"{request.machine_id[:200]!a} cannot be a machine's id: use letters, digits, dots and dashes"
        )
    for name, choices in (("runtime", ("auto", "docker", "process")), ("input_networks", ("public", "private", "any"))):
        if request.options.get(name, choices[0]) not in choices:
            raise LaunchRefused(f"option {name} is {request.options[name]!a}, not one of {', '.join(choices)}")
    for name in _COUNTS:
        value = request.options.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise LaunchRefused(f"option {name} is {value!a}, not a whole number of 0 or more")


def _arguments(home: Path, request: LaunchRequest) -> list[str]:
    arguments = ["run", "--control-url", request.control_url, "--machine-id", request.machine_id, "--dir", str(home)]
    arguments += ["--join-token-file", str(home / "join-token")]
    arguments += ["--runtime", str(request.options.get("runtime", "auto"))]
    arguments += ["--input-networks", str(request.options.get("input_networks", "public"))]
    for name in _COUNTS:
        if name in request.options:
            arguments += ["--" + name.replace("_", "-"), str(request.options[name])]
    return arguments


def _environment(home: Path) -> dict[str, str]:
    """Nothing of ours but what every program needs: this server's secrets may be in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SSL_CERT_FILE") if name in os.environ}
    known = {"LAMPLIGHTER_MACHINE_DIR": str(home), "LAMPLIGHTER_MACHINE_ID": home.name}
    return {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8", **kept, **known}


# --- Processes and containers ---------------------------------------------------------------------------------------


def _census(machines: Path) -> dict[str, set[_Process]]:
    """The processes of each machine, by what their environment says."""
    found: dict[str, set[_Process]] = {}
    ours = os.fsencode(machines) + b"/"
    for process in _processes():
        try:
            variables = dict(
                v.partition(b"=")[::2] for v in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            )
        except OSError:
            continue
        # Supervisor and agent carry the first; plain user processes only the second, which lies below the machine.
        place = variables.get(b"LAMPLIGHTER_MACHINE_DIR") or variables.get(b"VH_OUTPUTS_DIR") or b""
        if place.startswith(ours):
            found.setdefault(os.fsdecode(place.removeprefix(ours).split(b"/")[0]), set()).add(process)
    return found


def _all_of(home: Path, known: set[_Process]) -> set[_Process]:
    """`known` and whatever else is the machine's: what its files name, and the families and sessions of all these."""
    living = {process: _family(process) for process in _processes()}
    living = {process: family for process, family in living.items() if family is not None}
    found = (known | _named(home)) & living.keys()
    while True:
        pids = {process.pid for process in found}
        more = {process for process, family in living.items() if family and pids.intersection(family)} - found
        if not more:
            return found - {process for process in found if process.pid == os.getpid()}
        found |= more


def _named(home: Path) -> set[_Process]:
    """The processes that the machine's own files name: its supervisor, and runs by the line of /proc/<pid>/stat they left."""
    named = set()
    note = _read(home / "supervisor.json")
    if note:
        named.add(_Process(int(note["pid"]), int(note["start_time"])))
    for path in home.glob("runs/*/start-*"):
        with suppress(OSError, ValueError, IndexError):
            text = path.read_text("utf-8", "replace")
            named.add(_Process(int(text.split(" ", 1)[0]), int(text.rpartition(")")[2].split()[19])))
    return named


def _processes() -> Iterator[_Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(int(name))
            if stat is not None and stat[0] != "Z":
                yield _Process(int(name), int(stat[19]))


def _family(process: _Process) -> tuple[int, int, int] | None:
    """Parent, process group and session."""
    stat = _stat(process.pid)
    return None if stat is None or stat[0] == "Z" else (int(stat[1]), int(stat[2]), int(stat[3]))


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state (the third) on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None


def _signal(process: _Process, number: int) -> None:
    stat = _stat(process.pid)
    if stat is not None and int(stat[19]) == process.start_time:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def _await_end(processes: Iterable[_Process], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and set(processes) & set(_processes()):
        time.sleep(0.02)


def _containers(home: Path) -> list[str]:
    options = _read(home / "request.json").get("options")
    if options is None or options.get("runtime") == "process" or not shutil.which("docker"):
        return []
    return _docker("ps", "-aq", "--filter", f"label={_LABEL}={home.name}").split()


def _docker(*arguments: str) -> str:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"docker {arguments[0]} failed ({error}): is its daemon running?") from error


# --- Files ----------------------------------------------------------------------------------------------------------


@contextmanager
def _lock(home: Path) -> Iterator[int | None]:
    """The machine's lock, or None while somebody else holds it. Who inherits the descriptor holds it on."""
    descriptor = os.open(home / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _disk(doing: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{doing} {what}: {error}; is the disk full, or not ours?") from error


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file of ours; empty if there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with open(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _write_once(path: Path, text: str) -> None:
    """Whole or not at all, by the first one only. Raises `FileExistsError` for all others."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    draft.write_text(text, encoding="utf-8")
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def _trim(log: Path) -> None:
    """Keep the log below twice its bound: the agent appends to the same file on."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def _clear(home: Path) -> None:
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in ("supervisor.lock", "agent.log", "agent.log.1"):
            path.unlink(missing_ok=True)
