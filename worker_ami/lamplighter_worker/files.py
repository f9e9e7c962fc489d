"""Small files that survive a crash: written beside, flushed, and moved into place."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """After a crash at any instant `path` holds the old content or the new, whole. Only the owner may read it."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """`write_atomically` of the JSON text of `value`."""
    write_atomically(path, json.dumps(value).encode())


def read_json(path: Path) -> Any:
    """What `write_json` wrote, or None when there is no file or it cannot be read as JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def remove_tree(path: Path) -> None:
    """Removes a directory with all that is in it, even where user code took its own rights away; repeatable."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    for directory, _names, _files in os.walk(path):
        os.chmod(directory, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
