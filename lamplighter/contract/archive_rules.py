"""What a code archive may contain, and how it is unpacked so that nothing lands outside its directory."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lamplighter.contract.tar_stream import Entry, Inflated, entries, fault, show

MIB = 1024 * 1024
_DRIVE = re.compile(r"[A-Za-z]:([\\/].*)?", re.DOTALL)
_INVISIBLE = dict.fromkeys((*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF))
_LATEST = 2**33


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much an archive may unpack to. `entries` counts files, links and directories, named or implied.

    The ratio of unpacked to packed size is judged beyond the first `ratio_from` bytes. `total_bytes` is at most 4 GiB.
    """

    total_bytes: int = 2000 * MIB
    entries: int = 50_000
    depth: int = 64
    path_bytes: int = 4096
    segment_bytes: int = 255
    ratio: int = 100
    ratio_from: int = 10 * MIB

    def __post_init__(self) -> None:
        if not 0 < self.total_bytes <= 4096 * MIB:
            raise ValueError(f"total_bytes must lie between 1 and 4 GiB, not {self.total_bytes}")


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True, slots=True)
class Member:
    """A member that passed every rule. `path` is its segments; `target` a link's target; `executable` as packed."""

    path: tuple[str, ...]
    kind: str
    target: str
    size: int
    executable: bool
    mtime: int
    body: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """How many files (links included) were written, and how many bytes they hold."""

    files: int
    size: int


def check_member(
    name: str, kind: str, linkname: str = "", *, limits: ArchiveLimits = DEFAULT_LIMITS
) -> tuple[tuple[str, ...], str]:
    """The path segments of a member (none for the root directory) and, for a "symlink", its target in plain form.

    Only "file", "directory" and "symlink" are kinds that pass; the path must stay inside the tree, and so must a link's
    target. Knows nothing of other members: see `Tree`. Raises `Invalid` under the field "data".
    """
    if kind not in ("file", "directory", "symlink"):
        raise fault(f"it is a {kind}; only files, directories and links inside the tree are accepted", name)
    segments = _segments(name, "its name", name, limits)
    if ".." in segments:
        raise fault('its name leads through ".."', name)
    if kind == "directory":
        return segments, ""
    if not segments or name.endswith("/"):
        raise fault(f"a {kind} needs a file name", name)
    return segments, _link_target(segments, linkname, name, limits) if kind == "symlink" else ""


class Tree:
    """Remembers the members of one archive and refuses those that contradict each other."""

    def __init__(self, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._root: _Node = _Node("directory")
        self._count = 0

    def add(self, segments: tuple[str, ...], kind: str) -> None:
        """Raises `Invalid` for a name given twice, a file below what is no directory, or too many members."""
        node = self._root
        for segment in segments[:-1]:
            node = node.below.get(segment) or self._new(node, segment, "directory")
            if node.kind != "directory":
                raise fault(f"it lies below a {node.kind}", "/".join(segments))
        if not segments:
            return
        known = node.below.get(segments[-1])
        if known is None:
            known = self._new(node, segments[-1], kind)
        elif known.named or kind != known.kind:
            raise fault("the name occurs twice", "/".join(segments))
        known.named = True

    def _new(self, parent: _Node, segment: str, kind: str) -> _Node:
        self._count += 1
        if self._count > self._limits.entries:
            raise fault(f"it holds more than {self._limits.entries} files and directories")
        node = parent.below[segment] = _Node(kind)
        return node


@dataclass(slots=True)
class _Node:
    kind: str
    named: bool = False
    below: dict[str, _Node] = field(default_factory=dict)


def walk(stream: BinaryIO, limits: ArchiveLimits = DEFAULT_LIMITS) -> Iterator[Member]:
    """Every member in order, checked; each body is to be read before the next step, and is skipped otherwise.

    An archive is only proven sound when the walk has ended. Raises `Invalid` under the field "data".
    """
    overhead = 4 * 1024 * limits.entries
    source = Inflated(
        stream, total_bytes=limits.total_bytes + overhead, ratio=limits.ratio, ratio_from=limits.ratio_from
    )
    tree = Tree(limits)
    total = 0
    for entry, body in entries(source, limits.entries):
        path, target = check_member(entry.name, entry.kind, entry.linkname, limits=limits)
        tree.add(path, entry.kind)
        total += entry.size
        if total > limits.total_bytes:
            raise fault(f"it unpacks to more than {limits.total_bytes} bytes", entry.name)
        if path:
            yield _member(entry, path, target, body)


def unpack(stream: BinaryIO, directory: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> Unpacked:
    """Writes the archive below `directory`, which must exist and should be empty.

    Files belong to the caller, have mode 0755 or 0644 and the archive's mtime. Raises `Invalid` for what `walk` refuses
    and for names that are taken; `OSError` for the disk's own faults. What was written before a fault stays: remove it.
    """
    files = size = 0
    with ExitStack() as cleanup:
        places = _Places(directory)
        cleanup.callback(places.close)
        for member in walk(stream, limits):
            if member.kind == "directory":
                places.enter(member.path)
                continue
            parent = places.enter(member.path[:-1])
            _write(member, parent)
            files += 1
            size += member.size
    return Unpacked(files, size)


def _member(entry: Entry, path: tuple[str, ...], target: str, body: Iterator[bytes]) -> Member:
    mtime = min(max(entry.mtime, 0), _LATEST)
    return Member(path, entry.kind, target, entry.size, bool(entry.mode & 0o100), mtime, body)


def _segments(path: str, what: str, member: str, limits: ArchiveLimits) -> tuple[str, ...]:
    if any(unicodedata.category(c) == "Cc" for c in path):
        raise fault(f"{what} holds control characters", member)
    if path.startswith(("/", "\\")) or _DRIVE.fullmatch(path):
        raise fault(f"{what} is an absolute path", member)
    if len(path.encode("utf-8", "surrogatepass")) > limits.path_bytes:
        raise fault(f"{what} is longer than {limits.path_bytes} bytes", member)
    segments = tuple(s for s in path.split("/") if s not in ("", "."))
    if len(segments) > limits.depth:
        raise fault(f"{what} is deeper than {limits.depth} directories", member)
    for segment in segments:
        _check_segment(segment, what, member, limits)
    return segments


def _check_segment(segment: str, what: str, member: str, limits: ArchiveLimits) -> None:
    try:
        length = len(segment.encode())
    except UnicodeEncodeError as error:
        raise fault(f"{what} is not UTF-8", member) from error
    if length > limits.segment_bytes:
        raise fault(f"a part of {what} is longer than {limits.segment_bytes} bytes", member)
    if segment != ".." and ".." in segment.split("\\"):
        raise fault(f'{what} leads through ".."', member)
    plain = unicodedata.normalize("NFC", segment.translate(_INVISIBLE)).casefold().rstrip(". ")
    if plain in (".git", "git~1"):
        raise fault('".git" must not be part of an archive; leave it out', member)


def _link_target(segments: tuple[str, ...], linkname: str, member: str, limits: ArchiveLimits) -> str:
    """Only leading ".." are accepted: a later one could climb out through another link."""
    if not linkname:
        raise fault("the link has no target", member)
    target = _segments(linkname, "the link's target", member, limits)
    climbs = next((n for n, segment in enumerate(target) if segment != ".."), len(target))
    if ".." in target[climbs:]:
        raise fault(f'the link\'s target {show(linkname)} holds ".." in its middle', member)
    if climbs > len(segments) - 1:
        raise fault(f"the link points outside the tree, to {show(linkname)}", member)
    return "/".join(target) or "."


class _Places:
    """Open directories along the current path, each opened from its parent and never through a link."""

    def __init__(self, root: Path) -> None:
        self._names: list[str] = []
        self._handles = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]

    def enter(self, path: tuple[str, ...]) -> int:
        """The handle of the directory, made where it is missing; valid until the next call."""
        shared = 0
        while shared < min(len(path), len(self._names)) and path[shared] == self._names[shared]:
            shared += 1
        while len(self._names) > shared:
            self._names.pop()
            os.close(self._handles.pop())
        for name in path[shared:]:
            self._handles.append(_open_directory(name, self._handles[-1]))
            self._names.append(name)
        return self._handles[-1]

    def close(self) -> None:
        while self._handles:
            os.close(self._handles.pop())


def _open_directory(name: str, parent: int) -> int:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
        made = True
    except FileExistsError:
        made = False
    try:
        handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except NotADirectoryError as error:
        raise fault("something else has the name of this directory", name) from error
    if made:
        os.fchmod(handle, 0o755)
    return handle


def _write(member: Member, parent: int) -> None:
    name = member.path[-1]
    times = (member.mtime * 10**9, member.mtime * 10**9)
    try:
        if member.kind == "symlink":
            os.symlink(member.target, name, dir_fd=parent)
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(name, flags, 0o600, dir_fd=parent)
    except FileExistsError as error:
        raise fault("something has this name already", "/".join(member.path)) from error
    with open(handle, "wb", buffering=0) as file:
        for piece in member.body:
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]
        os.fchmod(handle, 0o755 if member.executable else 0o644)
        os.utime(handle, ns=times)
