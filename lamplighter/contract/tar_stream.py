"""Reads a gzip tar once, from start to end, without ever holding more of it than a small window.

The standard reader takes an extension header into memory whole, whatever size it claims; this one refuses it first.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lamplighter.errors import Invalid

BLOCK = 512
WINDOW = 64 * 1024
EXTENSION_LIMIT = 64 * 1024
"""Long names and pax records beyond this size have no honest use."""

_KINDS = {
    b"0": "file",
    b"\0": "file",
    b"1": "hard link",
    b"2": "symlink",
    b"3": "device",
    b"4": "device",
    b"5": "directory",
    b"6": "pipe",
    b"S": "sparse file",
}
_MTIME = re.compile(r"-?\d{1,12}(\.\d{1,20})?", re.ASCII)


def fault(what: str, member: str | None = None) -> Invalid:
    """An `Invalid` under the field "data"; `member` is shown escaped and shortened."""
    where = f", at member {show(member)}" if member is not None else ""
    return Invalid({"data": [f"The archive cannot be accepted{where}: {what}."]})


def show(text: str) -> str:
    """`text` fit for a message: one line, printable, at most 80 characters."""
    short = text if len(text) <= 80 else f"{text[:50]}…{text[-25:]}"
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short) + '"'


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as the archive describes it, unchecked. `mtime` is in seconds since 1970."""

    name: str
    kind: str
    linkname: str
    size: int
    mode: int
    mtime: int


class Inflated:
    """The decompressed bytes of a gzip stream. Faults are `Invalid`; failures of the stream itself pass through."""

    def __init__(self, stream: BinaryIO, *, total_bytes: int, ratio: int, ratio_from: int) -> None:
        self._stream = stream
        self._total = total_bytes
        self._ratio = ratio
        self._ratio_from = ratio_from
        self._inflater = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._read = 0
        self._given = 0
        self._window = b""
        self._more_inside = False
        self._between = False

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes (at most EXTENSION_LIMIT, rounded up to a block)."""
        parts = list(self.pieces(size))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in pieces of at most WINDOW."""
        while size:
            piece = self._window or self._inflate()
            if not piece:
                raise fault("it is cut off in the middle; pack and send it again")
            self._window = piece[size:]
            yield piece[:size]
            size -= min(size, len(piece))

    def finish(self) -> None:
        """Reads to the end, so that the checksum is proven; only padding may follow."""
        while piece := self._window or self._inflate():
            self._window = b""
            if piece.strip(b"\0"):
                raise fault("there is data behind its end marker")

    def _inflate(self) -> bytes:
        while True:
            if not self._pending and not self._more_inside:
                self._pending = self._stream.read(WINDOW)
                self._read += len(self._pending)
                if not self._pending:
                    return self._at_end()
            if self._between and not self._next_gzip_member():
                continue
            piece = self._step()
            if piece:
                return piece

    def _at_end(self) -> bytes:
        if not self._between:
            raise fault("it is cut off in the middle, or empty; pack and send it again")
        return b""

    def _next_gzip_member(self) -> bool:
        if self._pending[:1] == b"\x1f":
            self._inflater = zlib.decompressobj(wbits=31)
            self._between = False
            return True
        if self._pending.strip(b"\0"):
            raise fault("there is data behind its gzip stream")
        self._pending = b""
        return False

    def _step(self) -> bytes:
        try:
            piece = self._inflater.decompress(self._pending, WINDOW)
        except zlib.error as error:
            raise fault(f"it is not a sound gzip file ({error}); send a .tar.gz") from error
        self._more_inside = len(piece) == WINDOW
        self._pending = self._inflater.unconsumed_tail
        if self._inflater.eof:
            self._pending = self._inflater.unused_data
            self._more_inside = False
            self._between = True
        self._given += len(piece)
        if self._given > self._total:
            raise fault(f"it unpacks to more than {self._total} bytes")
        if self._given > self._ratio_from and self._given > self._ratio * (self._read - len(self._pending)):
            raise fault(f"it unpacks to more than {self._ratio} times its own size")
        return piece


def entries(source: Inflated, max_entries: int) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """Each member with its content. Content that is not consumed is skipped; the last step proves the end is sound."""
    name = linkname = None
    pax: dict[str, str] = {}
    for _ in range(4 * max_entries + 1):
        block = source.exactly(BLOCK)
        if not block.strip(b"\0"):
            source.finish()
            return
        kind, size = block[156:157], _header_size(block)
        if kind in (b"L", b"K", b"x", b"g"):
            text = _extension(source, size)
            if kind == b"L":
                name = _text(text.rstrip(b"\0"))
            elif kind == b"K":
                linkname = _text(text.rstrip(b"\0"))
            elif kind == b"x":
                pax = _pax_records(text)
            else:
                _check_global(_pax_records(text))
            continue
        entry = _entry(block, kind, size, name, linkname, pax)
        name, linkname, pax = None, None, {}
        body = source.pieces(entry.size)
        yield entry, body
        for _skipped in body:
            pass
        source.exactly(-entry.size % BLOCK)
    raise fault("it has too many header blocks")


def _entry(block: bytes, kind: bytes, size: int, name: str | None, linkname: str | None, pax: dict[str, str]) -> Entry:
    name = pax.get("path", name if name is not None else _header_name(block))
    linkname = pax.get("linkpath", linkname if linkname is not None else _field(block, 157, 100))
    if any(key.startswith("GNU.sparse") for key in pax):
        raise fault("sparse files are not supported", name)
    if "size" in pax:
        size = _pax_size(pax["size"], name)
    word = _KINDS.get(kind, "member of an unknown kind")
    if kind == b"\0" and name.endswith("/"):
        word = "directory"
    if word in ("directory", "symlink") and size:
        raise fault(f"a {word} cannot have content", name)
    return Entry(name, word, linkname, size, _number(block, 100, 8) & 0o7777, _mtime(block, pax, name))


def _header_size(block: bytes) -> int:
    stated = _number(block, 148, 8)
    blanked = block[:148] + b" " * 8 + block[156:]
    if stated not in (sum(blanked), sum(b - 256 if b > 127 else b for b in blanked)):
        raise fault("a header's checksum is wrong: it is not a tar file, or damaged")
    size = _number(block, 124, 12)
    if size < 0:
        raise fault("a member has a negative size")
    return size


def _header_name(block: bytes) -> str:
    name = _field(block, 0, 100)
    prefix = _field(block, 345, 155) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _field(block: bytes, start: int, length: int) -> str:
    return _text(block[start : start + length].split(b"\0", 1)[0])


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fault("a name is not UTF-8", raw.decode("latin-1")) from error


def _number(block: bytes, start: int, length: int) -> int:
    raw = block[start : start + length]
    if raw[0] in (0x80, 0xFF):
        return int.from_bytes(raw[1:], "big", signed=raw[0] == 0xFF)
    digits = raw.split(b"\0", 1)[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise fault("a header holds a number that is none")
    return int(digits or b"0", 8)


def _extension(source: Inflated, size: int) -> bytes:
    if size > EXTENSION_LIMIT:
        raise fault(f"an extended header is larger than {EXTENSION_LIMIT} bytes")
    return source.exactly(size + -size % BLOCK)[:size]


def _pax_records(text: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    at = 0
    while at < len(text):
        digits, space, _ = text[at : at + 8].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = text[at + len(digits) + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not equals or not key or length > len(text) - at or not value.endswith(b"\n"):
            raise fault("an extended header is malformed")
        records[_text(key)] = _text(value[:-1])
        at += length
    return records


def _check_global(records: dict[str, str]) -> None:
    if any(key in ("path", "linkpath", "size") or key.startswith("GNU.sparse") for key in records):
        raise fault("a global header sets the name or size of every member")


def _pax_size(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise fault("its size is not a number", name)
    return int(text)


def _mtime(block: bytes, pax: dict[str, str], name: str) -> int:
    if "mtime" not in pax:
        return _number(block, 136, 12)
    if not _MTIME.fullmatch(pax["mtime"]):
        raise fault("its time is not a number", name)
    return int(float(pax["mtime"]))
