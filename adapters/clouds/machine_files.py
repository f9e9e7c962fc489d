"""The files of a local machine: written whole, read with care, locked by its supervisor."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lamplighter.errors import Unavailable

MAX_LOG_BYTES = 8 * 1024 * 1024


@contextmanager
def machine_lock(home: Path) -> Iterator[int | None]:
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
def disk_faults(doing: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{doing} {what}: {error}; is the disk full, or not ours?") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of ours; empty if there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_whole(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with open(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_once(path: Path, text: str) -> None:
    """Whole or not at all, by the first one only. Raises `FileExistsError` for all others."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    draft.write_text(text, encoding="utf-8")
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def trim_log(log: Path) -> None:
    """Keep the log below twice its bound: the agent appends to the same file on."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def clear_data(home: Path) -> None:
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in ("supervisor.lock", "agent.log", "agent.log.1"):
            path.unlink(missing_ok=True)
