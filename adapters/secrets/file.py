"""Secrets as files that only this user may read: what a single server keeps its secrets in."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from lamplighter.errors import Invalid, NotFound, Unavailable

MAX_VALUE_BYTES = 256 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class FileSecrets:
    """Implements `Secrets` in `folder`, which is made (0700) if it is not there. Safe with many threads and processes.

    A value is on the disk, beyond power loss, when `put` returns; a torn write leaves the older value.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, name: str, value: str) -> None:
        """As the port says. Raises `Invalid` for an odd name or a value over 256 KiB, `Unavailable` when the disk refuses."""
        path = self._path(name)
        content = value.encode("utf-8", "surrogatepass")
        if len(content) > MAX_VALUE_BYTES:
            raise Invalid({"value": [f"A secret has at most {MAX_VALUE_BYTES} bytes; this one has {len(content)}."]})
        self._replace(path, content, name)

    def get(self, name: str) -> str:
        """As the port says."""
        try:
            return self._path(name).read_bytes().decode("utf-8", "surrogatepass")
        except FileNotFoundError:
            raise NotFound(f"there is no secret {name}") from None
        except OSError as error:
            raise Unavailable(f"the secret {name} cannot be read ({error.strerror}): look at {self._folder}") from error

    def delete(self, name: str) -> None:
        """As the port says."""
        with contextlib.suppress(FileNotFoundError):
            self._path(name).unlink()
            self._sync()

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or len(name) > 200:
            raise Invalid(
                {"name": [f"{name[:200]!a} cannot be a secret's name: letters, digits, . _ - and / are accepted."]}
            )
        # No name holds a comma, so no two names share a file.
        return self._folder / name.replace("/", ",")

    def _replace(self, path: Path, content: bytes, name: str) -> None:
        fresh = self._folder / f".{secrets.token_hex(12)}"
        try:
            with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            self._sync()
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise Unavailable(f"the secret {name} cannot be kept ({error.strerror}): look at {self._folder}") from error

    def _sync(self) -> None:
        """Makes the folder's names durable."""
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
