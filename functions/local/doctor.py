"""`lamplighter doctor`: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.catalogue import adapter
from functions.local.listening import listen
from functions.local.state import METADATA, initialised, read_holder
from functions.settings import Settings
from functions.stores import make_store, prove_store, store_rows
from lamplighter.errors import LamplighterError, Unavailable

GIB = 2**30
FREE_WANTED = 10 * GIB
FREE_NEEDED = 1 * GIB
PYTHON_NEEDED = (3, 11)
SQLITE_NEEDED = (3, 35, 0)
EARLIEST_SANE_TIME = 1_735_689_600  # 2025-01-01: a clock before that was never set


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. "missing" means that a server cannot run without it; `advice` says how to get it."""

    grade: Literal["ok", "warn", "missing"]
    thing: str
    detail: str
    advice: str = ""


def doctor(settings: Settings) -> int:
    """Print every finding; 1 when something needed is missing, else 0."""
    return tell(examine(settings), "A server can run here.")


def tell(findings: Iterable[Finding], all_well: str) -> int:
    """Print every finding as it is made; 1 when something needed is missing, else 0."""
    missing = 0
    for found in findings:
        missing += found.grade == "missing"
        print(f"{found.grade:<8} {found.thing:<14} {found.detail}", flush=True)
        if found.advice:
            print(f"{'':<23} -> {found.advice}")
    print(f"{missing} needed things are missing." if missing else all_well)
    return 1 if missing else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one finding after the other; nothing is changed, but a store gets a small object for a moment."""
    yield _python()
    yield _sqlite()
    yield _state(settings.state)
    yield _disk(settings.state)
    yield _port(settings)
    yield from _docker()
    yield _clock()
    if initialised(settings.state):
        yield from _stores(settings.state)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON_NEEDED:
        return Finding("missing", "python", version, "Python 3.11 or later is needed.")
    return Finding("ok", "python", f"{version} at {sys.executable}")


def _sqlite() -> Finding:
    if sqlite3.sqlite_version_info < SQLITE_NEEDED:
        return Finding("missing", "sqlite", sqlite3.sqlite_version, "SQLite 3.35 or later is needed.")
    return Finding("ok", "sqlite", sqlite3.sqlite_version)


def _state(folder: Path) -> Finding:
    near = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=near):
            pass
    except OSError as error:
        return Finding("missing", "state folder", f"{folder}: {error.strerror}", "Choose another with --state.")
    if near == folder and folder.stat().st_mode & 0o077:
        return Finding("warn", "state folder", f"{folder} can be read by others", f"chmod 700 {folder}")
    return Finding("ok", "state folder", str(folder) if near == folder else f"{folder} (will be made)")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_nearest(folder)).free
    text = f"{free / GIB:.1f} GiB free"
    if free < FREE_NEEDED:
        return Finding("missing", "disk space", text, "Free some space: code, inputs and outputs are kept here.")
    if free < FREE_WANTED:
        return Finding("warn", "disk space", text, "Images and data may need more.")
    return Finding("ok", "disk space", text)


def _port(settings: Settings) -> Finding:
    where = f"{settings.port} on {settings.host}"
    try:
        listen(settings.host, settings.port).close()
    except Unavailable as error:
        holder = read_holder(settings.state)
        if holder.get("url", "").endswith(f":{settings.port}"):
            return Finding("ok", "port", f"{where} is this state's own server, process {holder.get('pid')}")
        what, _, advice = str(error).partition(": ")
        return Finding("missing", "port", what, advice)
    return Finding("ok", "port", f"{where} is free")


def _docker() -> Iterator[Finding]:
    client = shutil.which("docker")
    if not client:
        advice = "Install Docker for steps in containers; without it: lamplighter up --runtime process"
        yield Finding("warn", "docker", "no docker command", advice)
        return
    try:
        asked = subprocess.run(
            [client, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("warn", "docker", f"the daemon does not answer ({error})", "Start it: systemctl start docker")
        return
    if asked.returncode != 0:
        denied = "permission denied" in asked.stderr.lower()
        advice = "Add this user to the group docker." if denied else "Start it: systemctl start docker"
        yield Finding("warn", "docker", (asked.stderr.strip().splitlines() or ["no answer"])[-1][:200], advice)
        return
    yield Finding("ok", "docker", f"server {asked.stdout.strip()}")
    init = shutil.which("docker-init") or shutil.which("tini")
    known = init or next(
        (p for p in ("/usr/libexec/docker/docker-init", "/usr/bin/docker-init") if os.path.exists(p)), ""
    )
    if known:
        yield Finding("ok", "docker-init", known)
    else:
        yield Finding("warn", "docker-init", "not found", "Install tini: processes of a step are reaped by it.")


def _clock() -> Finding:
    now = time.time()
    if now < EARLIEST_SANE_TIME:
        return Finding(
            "missing", "clock", time.strftime("%Y-%m-%d", time.gmtime(now)), "Set the clock: signed URLs expire by it."
        )
    return Finding("ok", "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _stores(folder: Path) -> Iterator[Finding]:
    """Each store that was added, proven as when it was."""
    try:
        metadata = adapter("metadata", "sqlite")(folder / METADATA)
    except LamplighterError as error:
        yield Finding("missing", "records", str(error))
        return
    with contextlib.closing(metadata):
        secrets = adapter("secrets", "file")(folder / "secrets")
        for row in store_rows(metadata):
            try:
                prove_store(make_store(row, secrets))
            except LamplighterError as error:
                advice = "Mend it, or have outputs kept on this server: lamplighter store default local"
                yield Finding("missing", f"store {row.name}", str(error), advice if row.default else "")
            else:
                yield Finding("ok", f"store {row.name}", "written, read and deleted a small object")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the closest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder
