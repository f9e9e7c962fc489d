"""Looks over a git pack before the git library takes its objects into memory, and finds a commit in its beginning."""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import BinaryIO

from lamplighter.errors import Invalid, Unavailable

CHUNK = 64 * 1024
MAX_OBJECTS = 200_000
MAX_COMMIT_BYTES = 1024 * 1024
_COMMIT, _OFFSET_DELTA, _REFERENCE_DELTA = 1, 6, 7


def check_pack(file: BinaryIO, *, object_bytes: int, total_bytes: int) -> None:
    """Inflates every object of a pack without keeping it, reading `file` from its start.

    Raises `Invalid` if an object (a delta: its result) is larger than `object_bytes` or all are larger than `total_bytes`,
    `Unavailable` if the pack is damaged.
    """
    pack = _Pack(file)
    total = 0
    for _ in range(pack.count()):
        _, size, _ = pack.next_object(object_bytes)
        total += size
        if total > total_bytes:
            raise _too_large(f"its files are larger than {total_bytes} bytes together")


def find_commit(beginning: bytes, sha: str) -> bytes | None:
    """The content of commit `sha` if the first bytes of a pack hold all of it; else None: more bytes may."""
    pack = _Pack(io.BytesIO(beginning))
    try:
        for _ in range(pack.count()):
            kind, size, content = pack.next_object(MAX_COMMIT_BYTES, keep=True)
            if (
                kind == _COMMIT
                and hashlib.sha1(b"commit %d\0" % size + content, usedforsecurity=False).hexdigest() == sha
            ):
                return content
    except _CutOff:
        return None
    return None


class _CutOff(Unavailable):
    pass


class _Pack:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = b""

    def count(self) -> int:
        header = self._take(12)
        count = int.from_bytes(header[8:], "big")
        if header[:4] != b"PACK" or header[4:8] not in (b"\0\0\0\2", b"\0\0\0\3"):
            raise _damaged("it is no pack")
        if count > MAX_OBJECTS:
            raise _too_large(f"it holds more than {MAX_OBJECTS} objects")
        return count

    def next_object(self, limit: int, *, keep: bool = False) -> tuple[int, int, bytes]:
        """Kind, size (of a delta: its result's) and, with `keep`, content of the next object."""
        byte = self._take(1)[0]
        kind, size, shift = (byte >> 4) & 7, byte & 15, 4
        while byte & 0x80:
            byte = self._take(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 60:
                raise _damaged("an object has no sound size")
        if kind in (0, 5):
            raise _damaged("an object is of no known kind")
        if size > limit:
            raise _too_large(f"a file is larger than {limit} bytes")
        self._skip_base(kind)
        content = self._inflate(size, size if keep else 32)
        if kind not in (_OFFSET_DELTA, _REFERENCE_DELTA):
            return kind, size, content
        result = _delta_result(content)
        if result > limit:
            raise _too_large(f"a file is larger than {limit} bytes")
        return kind, max(result, size), content

    def _skip_base(self, kind: int) -> None:
        if kind == _REFERENCE_DELTA:
            self._take(20)
        if kind == _OFFSET_DELTA:
            for _ in range(10):
                if not self._take(1)[0] & 0x80:
                    return
            raise _damaged("a delta has no sound base")

    def _inflate(self, size: int, keep: int) -> bytes:
        inflater = zlib.decompressobj()
        kept = b""
        done = 0
        pending = self._buffer
        try:
            while not inflater.eof:
                if not pending:
                    pending = self._file.read(CHUNK)
                    if not pending:
                        raise _CutOff("The git host's answer was cut off; try again.")
                piece = inflater.decompress(pending, CHUNK)
                pending = inflater.unconsumed_tail
                done += len(piece)
                kept += piece[: keep - len(kept)]
                if done > size:
                    raise _damaged("an object is larger than it says")
        except zlib.error as error:
            raise _damaged(f"an object cannot be inflated ({error})") from error
        if done != size:
            raise _damaged("an object is smaller than it says")
        self._buffer = inflater.unused_data
        return kept

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = self._file.read(CHUNK)
            if not more:
                raise _CutOff("The git host's answer was cut off; try again.")
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def _delta_result(delta: bytes) -> int:
    """A delta begins with the sizes of its base and of its result."""
    sizes = [0, 0]
    at = 0
    for which in (0, 1):
        for shift in range(0, 64, 7):
            if at >= len(delta):
                raise _damaged("a delta is cut off")
            byte = delta[at]
            at += 1
            sizes[which] |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
    return sizes[1]


def _damaged(why: str) -> Unavailable:
    return Unavailable(f"The git host's answer is damaged: {why}; try again.")


def _too_large(why: str) -> Invalid:
    return Invalid({"url": [f"The repository cannot be fetched: {why}."]})
