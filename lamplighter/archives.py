"""Looks into an uploaded code archive without unpacking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from lamplighter.contract.archive_rules import DEFAULT_LIMITS, ArchiveLimits, Member, walk
from lamplighter.contract.tar_stream import fault

WANTED_BYTES = 256 * 1024
"""The largest file that `inspect` gives back."""


@dataclass(frozen=True, slots=True)
class ArchiveSummary:
    """What an archive holds: the bytes of the wanted file (None if it is absent), its files, and their size in bytes."""

    wanted: bytes | None
    files: int
    size: int


def inspect(stream: BinaryIO, *, wanted: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> ArchiveSummary:
    """Reads a gzip tar once and checks every member, so that `unpack` will accept it too. Writes nothing.

    Memory stays bounded whatever the archive claims. Raises `Invalid` under the field "data" that says which member is
    wrong, and why; also when the wanted member is a link or larger than WANTED_BYTES.
    """
    path = tuple(part for part in wanted.split("/") if part not in ("", "."))
    found: bytes | None = None
    files = size = 0
    for member in walk(stream, limits):
        if member.kind == "directory":
            continue
        files += 1
        size += member.size
        if member.path == path:
            found = _content(member)
    return ArchiveSummary(found, files, size)


def _content(member: Member) -> bytes:
    name = "/".join(member.path)
    if member.kind != "file":
        raise fault("it is a link; put the file itself there", name)
    if member.size > WANTED_BYTES:
        raise fault(f"it holds {member.size} bytes; at most {WANTED_BYTES} can be read", name)
    return b"".join(member.body)
