"""The processes and containers that belong to a local machine, found by what they carry and what its files name."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapters.clouds.machine_files import read_json
from lamplighter.errors import Unavailable

LABEL = "lamplighter.machine"


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """A process, told from a later one with the same number by its start."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class Running:
    """What runs of a machine: all its processes, and whether supervisor or agent are among them."""

    processes: frozenset[Process] = frozenset()
    attended: bool = False


NOTHING = Running()


def census_of(machines: Path) -> dict[str, Running]:
    """The processes of each machine, by what their environment says."""
    found: dict[str, Running] = {}
    ours = os.fsencode(machines) + b"/"
    for process in _processes():
        try:
            variables = dict(
                v.partition(b"=")[::2] for v in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            )
        except OSError:
            continue
        # Supervisor and agent carry the first; plain user processes only the second, which lies below the machine.
        keeper = variables.get(b"LAMPLIGHTER_MACHINE_DIR")
        place = keeper or variables.get(b"VH_OUTPUTS_DIR") or b""
        if place.startswith(ours):
            name = os.fsdecode(place.removeprefix(ours).split(b"/")[0])
            known = found.get(name, NOTHING)
            found[name] = Running(known.processes | {process}, known.attended or keeper is not None)
    return found


def all_of(home: Path, known: frozenset[Process]) -> frozenset[Process]:
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


def _named(home: Path) -> set[Process]:
    """The processes that the machine's own files name: its supervisor, and runs by the line of /proc/<pid>/stat they left."""
    named = set()
    note = read_json(home / "supervisor.json")
    if note:
        named.add(Process(int(note["pid"]), int(note["start_time"])))
    for path in home.glob("runs/*/start-*"):
        with suppress(OSError, ValueError, IndexError):
            text = path.read_text("utf-8", "replace")
            named.add(Process(int(text.split(" ", 1)[0]), int(text.rpartition(")")[2].split()[19])))
    return named


def _processes() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(int(name))
            if stat is not None and stat[0] != "Z":
                yield Process(int(name), int(stat[19]))


def _family(process: Process) -> tuple[int, int, int] | None:
    """Parent, process group and session."""
    stat = _stat(process.pid)
    return None if stat is None or stat[0] == "Z" else (int(stat[1]), int(stat[2]), int(stat[3]))


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state (the third) on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None


def send(process: Process, number: int) -> None:
    stat = _stat(process.pid)
    if stat is not None and int(stat[19]) == process.start_time:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def await_end(processes: Iterable[Process], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and set(processes) & set(_processes()):
        time.sleep(0.02)


def containers_of(home: Path) -> list[str]:
    options = read_json(home / "request.json").get("options")
    if options is None or options.get("runtime") == "process" or not shutil.which("docker"):
        return []
    return docker("ps", "-aq", "--filter", f"label={LABEL}={home.name}").split()


def docker(*arguments: str) -> str:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"docker {arguments[0]} failed ({error}): is its daemon running?") from error
