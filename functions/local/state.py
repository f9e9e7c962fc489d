"""The folder in which one server keeps everything, and the lock that keeps a second server out of it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamplighter.errors import Unavailable

LOCK = "lock"
METADATA = "metadata.sqlite3"


class StateLock:
    """Held by the one server that runs on a state folder, until the process ends."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Make the folder (0700) if it is not there, and take it. Raises `Unavailable` saying who has it."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - held open for as long as we live
            os.chmod(folder / LOCK, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The state folder {folder} cannot be used ({error.strerror}): choose another."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = read_holder(folder)
            self._file.close()
            who = f"process {holder.get('pid', '?')}" + (f" at {holder['url']}" if holder.get("url") else "")
            raise Unavailable(
                f"Another server already runs on {folder}: {who}. Stop it first, or give this one another --state."
            ) from None
        before = read_holder(folder)
        self.last_url = str(before.get("url") or before.get("last_url") or "")
        """Where the server before this one was reached; empty at the first start."""
        self.tell(facts)

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Write down who holds the folder, for people and for the other commands."""
        self._note({"last_url": self.last_url, "pid": os.getpid(), **facts})

    def release(self, last_url: str = "") -> None:
        """Let go of the folder; only where the server was reached is kept, for the next one."""
        self._note({"last_url": last_url or self.last_url})
        self._file.close()

    def _note(self, facts: Mapping[str, Any]) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(facts))
        self._file.flush()


def read_holder(folder: Path) -> dict[str, Any]:
    """What the server that holds the folder has written down; nothing when nobody has."""
    try:
        found = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def initialised(folder: Path) -> bool:
    """Whether a server has ever started on this folder."""
    return (folder / METADATA).exists()
