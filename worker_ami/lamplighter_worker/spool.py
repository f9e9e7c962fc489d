"""Events on disk between the run and the control plane: numbered once, kept until they are acknowledged.

A spool is a directory of segment files; a segment is a row of records; a record is a few thousand events at most, already in
the JSON of the wire, with the places in stdout and stderr up to which they were cut. A record that was cut short by a
crash fails its checksum and is dropped with all that follows: what it held is cut again from the files.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lamplighter.errors import SequenceGap

_HEAD = struct.Struct(">4sIIIQIQQQ")
_MAGIC = b"LLE1"
_CHECKED_FROM = 8
_MOST = 64 * 1024 * 1024

SEGMENT_BYTES = 4 * 1024 * 1024
FULL_BYTES = 256 * 1024 * 1024
"""Above this, capturing pauses: the output waits in its files, nothing is dropped."""


@dataclass(frozen=True, slots=True)
class Record:
    """Some events in wire form: `lines` and `metadata` are JSON list items without the brackets."""

    first_seq: int
    count: int
    lines: bytes
    metadata: bytes
    offsets: tuple[int, int]
    last_time: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events to post."""

    first_seq: int
    count: int
    lines: bytes
    metadata: bytes


class Spool:
    """Append at one end, take from the other, forget what is acknowledged. One writer, one reader, each a thread."""

    def __init__(self, directory: Path, next_seq: int) -> None:
        """Opens what an earlier agent left; without such, events are numbered from `next_seq`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._changed = threading.Condition()
        self._starts: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._reading: tuple[int, BinaryIO] | None = None
        self.next_seq = next_seq
        self.offsets = (0, 0)
        self.last_time = 0
        self._recover()
        self._newest = max(self._sizes, default=0)
        if not self._sizes:
            self._starts[0], self._sizes[0] = self.next_seq, 0
        self._file = os.open(self._path(self._newest), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._segment, self._at, self._skip = min(self._sizes), 0, 0
        self._taken = self.acknowledged = self._starts[self._segment]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    @property
    def pending(self) -> int:
        """Events that were not taken yet."""
        return self.next_seq - self._taken

    def append(self, records: Sequence[Record]) -> None:
        """Makes the records durable. Raises `OSError` when the disk refuses."""
        content = b"".join(map(_pack, records))
        if not content:
            return
        if self._sizes[self._newest] >= SEGMENT_BYTES:
            self._roll(records[0].first_seq)
        self._write(content)
        last = records[-1]
        with self._changed:
            self._sizes[self._newest] += len(content)
            self.next_seq, self.offsets, self.last_time = last.first_seq + last.count, last.offsets, last.last_time
            self._changed.notify_all()

    def take(self, most_lines: int, most_bytes: int) -> Batch | None:
        """The next events, whole records, as many as fit (at least one record); None when all were taken."""
        taken: list[Record] = []
        lines = size = 0
        while (record := self._next()) is not None:
            if taken and (lines + record.count > most_lines or size + len(record.lines) > most_bytes):
                self._at -= _HEAD.size + len(record.lines) + len(record.metadata)
                break
            taken.append(record)
            lines, size = lines + record.count, size + len(record.lines) + len(record.metadata)
        if not taken:
            return None
        self._taken = taken[-1].first_seq + taken[-1].count
        kept = [_from(record, self._skip) for record in taken]
        first = max(taken[0].first_seq, self._skip)
        joined = b",".join(record.lines for record in kept)
        metadata = b",".join(record.metadata for record in kept if record.metadata)
        return Batch(first, self._taken - first, joined, metadata)

    def seek(self, seq: int) -> None:
        """Takes go on from event `seq`. Raises `SequenceGap` when this spool has forgotten it or never had it."""
        with self._changed:
            if not self._starts[min(self._starts)] <= seq <= self.next_seq:
                raise SequenceGap(seq)
            self._segment = max(number for number, start in self._starts.items() if start <= seq)
        self._at, self._taken, self._skip = 0, seq, seq
        while (record := self._next()) is not None:
            if record.first_seq + record.count > seq:
                self._at -= _HEAD.size + len(record.lines) + len(record.metadata)
                return

    def acknowledge(self, next_seq: int) -> None:
        """All events below `next_seq` are stored elsewhere: their segments go."""
        self.acknowledged = max(self.acknowledged, next_seq)
        with self._changed:
            for number in sorted(self._starts)[:-1]:
                following = min(n for n in self._starts if n > number)
                if self._starts[following] > self.acknowledged or number >= self._segment:
                    break
                self._path(number).unlink(missing_ok=True)
                del self._starts[number], self._sizes[number]

    def forget_acknowledged(self, next_seq: int) -> None:
        """The other side has lost what it had from `next_seq` on."""
        self.acknowledged = min(self.acknowledged, next_seq)

    def wait(self, seconds: float) -> None:
        """Returns when something was appended, or after `seconds`."""
        with self._changed:
            self._changed.wait(seconds)

    def close(self) -> None:
        os.close(self._file)
        if self._reading is not None:
            self._reading[1].close()

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}.spool"

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError:
            os.truncate(self._file, self._sizes[self._newest])
            raise

    def _roll(self, first_seq: int) -> None:
        os.close(self._file)
        with self._changed:
            self._newest += 1
            self._starts[self._newest], self._sizes[self._newest] = first_seq, 0
        self._file = os.open(self._path(self._newest), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _next(self) -> Record | None:
        """The record at the reading place, which moves behind it."""
        while True:
            with self._changed:
                available, newest = self._sizes[self._segment], self._newest
            if self._at < available:
                file = self._reader()
                file.seek(self._at)
                record = _unpack(file)
                if record is None:
                    raise OSError(f"A record in the spool {self._path(self._segment)} can no longer be read")
                self._at += _HEAD.size + len(record.lines) + len(record.metadata)
                return record
            if self._segment >= newest:
                return None
            with self._changed:
                self._segment, self._at = min(n for n in self._sizes if n > self._segment), 0

    def _reader(self) -> BinaryIO:
        if self._reading is None or self._reading[0] != self._segment:
            if self._reading is not None:
                self._reading[1].close()
            self._reading = self._segment, self._path(self._segment).open("rb")
        return self._reading[1]

    def _recover(self) -> None:
        numbers = sorted(int(path.stem) for path in self._directory.glob("*.spool"))
        for place, number in enumerate(numbers):
            good = 0
            for record in self._records(number):
                if not good:
                    self._starts[number] = record.first_seq
                good += _HEAD.size + len(record.lines) + len(record.metadata)
                self.next_seq, self.offsets = record.first_seq + record.count, record.offsets
                self.last_time = record.last_time
            self._starts.setdefault(number, self.next_seq)
            self._sizes[number] = good
            if good < self._path(number).stat().st_size:
                os.truncate(self._path(number), good)
                for later in numbers[place + 1 :]:
                    self._path(later).unlink()
                return

    def _records(self, number: int) -> Iterator[Record]:
        with self._path(number).open("rb") as file:
            while (record := _unpack(file)) is not None:
                yield record


def _pack(record: Record) -> bytes:
    sizes = len(record.lines), len(record.metadata)
    head = bytearray(_HEAD.pack(_MAGIC, 0, *sizes, record.first_seq, record.count, *record.offsets, record.last_time))
    head[4:8] = _checksum(head, record.lines, record.metadata).to_bytes(4, "big")
    return bytes(head) + record.lines + record.metadata


def _checksum(head: bytes | bytearray, lines: bytes, metadata: bytes) -> int:
    return zlib.crc32(metadata, zlib.crc32(lines, zlib.crc32(head[_CHECKED_FROM:])))


def _unpack(file: BinaryIO) -> Record | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, crc, line_bytes, metadata_bytes, first_seq, count, out, err, last_time = _HEAD.unpack(head)
    if magic != _MAGIC or line_bytes + metadata_bytes > _MOST:
        return None
    body = file.read(line_bytes + metadata_bytes)
    lines, metadata = body[:line_bytes], body[line_bytes:]
    if len(body) != line_bytes + metadata_bytes or _checksum(head, lines, metadata) != crc:
        return None
    return Record(first_seq, count, lines, metadata, (out, err), last_time)


def _from(record: Record, seq: int) -> Record:
    """The part of a record from event `seq` on."""
    drop = seq - record.first_seq
    if drop <= 0:
        return record
    lines = json.loads(b"[" + record.lines + b"]")[drop:]
    metadata = [point for point in json.loads(b"[" + record.metadata + b"]") if point[0] >= seq]
    return Record(seq, record.count - drop, _items(lines), _items(metadata), record.offsets, record.last_time)


def _items(values: list[object]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))[1:-1].encode()
