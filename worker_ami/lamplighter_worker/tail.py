"""Cuts lines from a file that another process is still writing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

CHUNK = 160 * 1024
LONGEST_LINE = 64 * 1024
LONGEST_POINT = 1024 * 1024
MOST_LINES = 4900
RELEASE_BYTES = 64 * 1024 * 1024

SafeCut = Callable[[bytes, int], int]


class Tail:
    """The lines of one file from byte `offset` on. Longer ones than 64 KiB come in pieces, except what may be metadata."""

    def __init__(self, path: Path, offset: int, safe_cut: SafeCut) -> None:
        self._path = path
        self._released = 0
        self._file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
        self.offset = offset
        self.size = offset
        self._safe_cut = safe_cut
        self._inside = offset > 0 and os.pread(self._file, 1, offset - 1) != b"\n"
        self._looked_at = -1

    @property
    def starts_inside(self) -> bool:
        """The next bytes continue a line of which a piece was given before."""
        return self._inside

    def grown(self) -> bool:
        """There are bytes that were not there at the last call."""
        size = os.fstat(self._file).st_size
        grown, self.size = size != self.size, size
        return grown

    def next(self, final: bool) -> bytes:
        """Up to 4900 whole lines, each with its end, or one piece of a long line; empty when there is nothing to cut yet.

        With `final` the file is complete: the last line is given though it has no end. The offset moves behind what is given.
        """
        if not final and self.size == self._looked_at:
            return b""
        data = os.pread(self._file, CHUNK, self.offset)
        end = data.rfind(b"\n") + 1
        if end:
            return self._give(_first_lines(data[:end]))
        if len(data) > LONGEST_LINE and not self._inside and data.lstrip(b" \t")[:1] == b"{":
            data = os.pread(self._file, LONGEST_POINT + 1, self.offset)
            if end := data.find(b"\n") + 1:
                return self._give(data[:end])
            if len(data) <= LONGEST_POINT and not final:
                self._looked_at = self.size
                return b""
        if final and len(data) <= LONGEST_LINE:
            return self._give(data)
        if len(data) <= LONGEST_LINE * 2 and not final:
            self._looked_at = self.size
            return b""
        return self._give(data[: self._safe_cut(data, whole_characters(data, LONGEST_LINE))])

    def release(self) -> None:
        """Gives the disk space of what was cut long ago back, where the file system can; offsets stay as they are."""
        if self.offset - self._released < RELEASE_BYTES or not (tool := shutil.which("fallocate")):
            return
        self._released = self.offset
        length = str(self.offset - 2 * LONGEST_LINE)
        subprocess.run(
            [tool, "--punch-hole", "--offset", "0", "--length", length, self._path], capture_output=True, check=False
        )

    def close(self) -> None:
        os.close(self._file)

    def _give(self, data: bytes) -> bytes:
        self.offset += len(data)
        if data:
            self._inside = not data.endswith(b"\n")
        return data


def _first_lines(data: bytes) -> bytes:
    if data.count(b"\n") <= MOST_LINES:
        return data
    return data[: len(data) - len(data.split(b"\n", MOST_LINES)[-1])]


def whole_characters(data: bytes, cut: int) -> int:
    """The last place at or before `cut` that does not part a UTF-8 character."""
    for place in range(cut, max(0, cut - 4), -1):
        if place >= len(data) or data[place] & 0xC0 != 0x80:
            return place
    return cut
