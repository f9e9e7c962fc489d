"""A store in memory, the strict double: it keeps every promise of the port, and nothing after the process."""

from __future__ import annotations

import io
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from urllib.parse import quote

from adapters.stores import rules
from lamplighter.errors import Forbidden, Invalid
from lamplighter.ports import Clock, ObjectInfo, Target


@dataclass(frozen=True, slots=True)
class _Grant:
    method: str
    key: str
    until: datetime
    size: int | None


class MemoryStore:
    """The `Store` port for tests and trials; safe with many threads. Signed URLs are for its own `call`.

    As on a disk, one key cannot be the folder of another: the second is refused with `Invalid`.
    """

    def __init__(self, *, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._objects: dict[str, bytes] = {}
        self._grants: dict[str, _Grant] = {}
        self._lock = threading.Lock()

    def put(self, key: str, body: BinaryIO, *, size: int) -> None:
        rules.check_key(key)
        rules.check_size(size)
        content = rules.read_piece(body, size + 1)
        if len(content) != size:
            raise rules.wrong_size(key, size, "more" if len(content) > size else str(len(content)))
        with self._lock:
            if key in self._objects:
                raise rules.already_written(key)
            if any(_contains(key, other) or _contains(other, key) for other in self._objects):
                raise Invalid({"key": [f"{key} is the folder of another object, or lies below one"]})
            self._objects[key] = content

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        rules.check_range(start, end)
        content = self._content(key)[start:end]
        return (content[at : at + rules.PIECE] for at in range(0, len(content), rules.PIECE))

    def head(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(self._content(key)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        rules.check_prefix(prefix)
        with self._lock:
            found = {key: len(content) for key, content in self._objects.items() if key.startswith(prefix)}
        return (ObjectInfo(key, found[key]) for key in sorted(found, key=str.encode))

    def delete(self, key: str) -> None:
        rules.check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def presign_get(self, key: str, *, seconds: int, filename: str | None = None) -> Target:
        return self._presign(
            "GET", key, seconds, None, "" if filename is None else f"&filename={quote(filename, safe='')}"
        )

    def presign_put(self, key: str, *, seconds: int, size: int) -> Target:
        rules.check_size(size)
        return self._presign("PUT", key, seconds, size, "")

    def call(self, target: Target, body: bytes = b"") -> bytes:
        """Does what a signed target allows and gives the answer's body, empty for a PUT.

        Raises `Forbidden` for a target that this store did not sign, that was changed or that has expired; otherwise as
        `put` and `get` do.
        """
        grant = self._grants.get(target.url)
        if grant is None or grant.method != target.method or self._clock() > grant.until:
            raise Forbidden(f"{target.method} {target.url} was not signed by this store, or has expired")
        if grant.size is None:
            return b"".join(self.get(grant.key))
        self.put(grant.key, io.BytesIO(body), size=grant.size)
        return b""

    def _presign(self, method: str, key: str, seconds: int, size: int | None, extra: str) -> Target:
        rules.check_key(key)
        rules.check_seconds(seconds)
        url = f"memory://objects/{quote(key)}?signature={secrets.token_hex(16)}{extra}"
        self._grants[url] = _Grant(method, key, self._clock() + timedelta(seconds=seconds), size)
        return Target(method, url, {} if size is None else {"Content-Length": str(size)})

    def _content(self, key: str) -> bytes:
        rules.check_key(key)
        with self._lock:
            content = self._objects.get(key)
        if content is None:
            raise rules.not_found(key)
        return content


def _contains(folder: str, key: str) -> bool:
    return key.startswith(folder + "/")
