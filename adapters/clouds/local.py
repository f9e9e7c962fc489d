"""Machines that are processes on this server: each an agent in a directory of its own, restarted when it falls."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.clouds.machine_files import (
    clear_data,
    disk_faults,
    machine_lock,
    read_json,
    trim_log,
    write_once,
    write_whole,
)
from adapters.clouds.machine_processes import (
    NOTHING,
    Running,
    all_of,
    await_end,
    census_of,
    containers_of,
    docker,
    send,
)
from lamplighter.errors import LaunchRefused, NotYet
from lamplighter.ports import CloudMachine, LaunchRequest

RESTARTS = 20
GRACE_SECONDS = 10.0
REMEMBERED = 50

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
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
        with disk_faults("launch", request.machine_id):
            self._claim(request)
            home = self._machines / request.machine_id
            if self._is_gone(request.machine_id):
                return self._seen(request.machine_id, "gone")
            home.mkdir(mode=0o700, exist_ok=True)
            with machine_lock(home) as lock:
                # Who holds the lock is a supervisor, or is about to start one.
                if lock is not None and not (home / "supervisor.json").exists() and not (home / "ending").exists():
                    self._start(home, request, lock)
            if self._is_gone(request.machine_id):
                return self._seen(request.machine_id, "gone")
            return self._look(request.machine_id, census_of(self._machines))

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        """As the port says. Gone machines are told of while their log is kept: the newest 50."""
        with disk_faults("describe", installation):
            self._reap()
            self._prune()
            census = census_of(self._machines)
            machines = []
            for home in sorted(self._machines.iterdir()):
                facts = read_json(home / "request.json") or read_json(self._gone / home.name)
                if facts.get("installation") != installation:
                    continue
                machine = self._look(home.name, census)
                if machine.state != "gone":
                    trim_log(home / "agent.log")
                machines.append(machine)
            return tuple(machines)

    def terminate(self, machine_id: str) -> None:
        """As the port says: asks politely first, and with force when `grace_seconds` have passed."""
        home = self._machines / machine_id
        if not _ID.fullmatch(machine_id) or self._is_gone(machine_id) or not home.is_dir():
            return
        with disk_faults("terminate", machine_id):
            self._end(machine_id, "terminated")

    def _end(self, machine_id: str, detail: str) -> None:
        home = self._machines / machine_id
        self._reap()
        mark = home / "ending"
        with suppress(FileExistsError):
            mark.touch(exist_ok=False)
        patient = time.time() < mark.stat().st_mtime + self._grace
        left = all_of(home, census_of(self._machines).get(machine_id, NOTHING).processes)
        for process in sorted(left):
            send(process, signal.SIGTERM if patient else signal.SIGKILL)
        containers = containers_of(home)
        if containers:
            docker("rm", "-f", *containers)
        await_end(left, 0.5)
        self._reap()
        if not self._settle(machine_id, detail):
            raise NotYet(f"machine {machine_id} has not ended: {len(left)} processes were told to")

    def _claim(self, request: LaunchRequest) -> None:
        """Tie the token to the machine, for ever."""
        token = self._tokens / hashlib.sha256(request.launch_token.encode()).hexdigest()
        with suppress(FileExistsError):
            write_once(token, request.machine_id)
        owner = token.read_text()
        if owner != request.machine_id:
            raise LaunchRefused(
                f"this launch token started machine {owner}, not {request.machine_id}: make a new token"
            )
        claims = self._tokens / f"machine-{request.machine_id}"
        with suppress(FileExistsError):
            write_once(claims, token.name)
        if claims.read_text() != token.name:
            raise LaunchRefused(f"machine {request.machine_id} was launched under another token: make a new machine id")

    def _start(self, home: Path, request: LaunchRequest, lock: int) -> None:
        write_whole(home / "join-token", request.join_token)
        facts = {
            "installation": request.installation,
            "environment": request.environment,
            "control_url": request.control_url,
            "options": dict(request.options),
        }
        write_whole(home / "request.json", json.dumps(facts))
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

    def _look(self, machine_id: str, census: Mapping[str, Running]) -> CloudMachine:
        home = self._machines / machine_id
        if self._is_gone(machine_id):
            return self._seen(machine_id, "gone")
        if not (home / "supervisor.json").exists():
            return self._seen(machine_id, "starting")
        if census.get(machine_id, NOTHING).attended:
            return self._seen(machine_id, "running")
        with machine_lock(home) as lock:
            # The census may be older than the supervisor: only who can take its lock knows that there is none.
            if lock is None or census_of(self._machines).get(machine_id, NOTHING).attended:
                return self._seen(machine_id, "running")
        # Nobody looks after what may still run there: a machine without its agent is dead, and is buried.
        with suppress(NotYet):
            self._end(machine_id, "the agent ended")
            return self._seen(machine_id, "gone")
        return self._seen(machine_id, "running")

    def _seen(self, machine_id: str, state: Any) -> CloudMachine:
        detail = str(read_json(self._gone / machine_id).get("detail", "")) if state == "gone" else ""
        return CloudMachine(machine_id, f"local:{machine_id}", state, detail)

    def _is_gone(self, machine_id: str) -> bool:
        return (self._gone / machine_id).exists()

    def _settle(self, machine_id: str, detail: str) -> bool:
        """Write down that the machine is gone and remove its data; false if something of it is still there."""
        home = self._machines / machine_id
        with machine_lock(home) as lock:
            if (
                lock is None
                or all_of(home, census_of(self._machines).get(machine_id, NOTHING).processes)
                or containers_of(home)
            ):
                return False
            facts = {"installation": read_json(home / "request.json").get("installation"), "detail": detail}
            write_whole(self._gone / machine_id, json.dumps(facts))
            clear_data(home)
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
