"""Turns a git tree into a code archive that obeys the rules of every code archive."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

from lamplighter.contract.archive_rules import ArchiveLimits, Tree, check_member
from lamplighter.contract.tar_stream import show
from lamplighter.errors import Invalid

_GITLINK, _TREE, _SYMLINK = 0o160000, 0o040000, 0o120000


def write_archive(store: Any, commit: Any, target: BinaryIO, limits: ArchiveLimits) -> None:
    """Writes the commit's files and inner links as a gzip tar; the same commit always gives the same bytes.

    Submodules are left out. Raises `Invalid` under the field "data" for a tree that an unpacker would refuse.
    """
    tree = Tree(limits)
    left = limits.total_bytes
    mtime = min(max(int(commit.commit_time), 0), 2**33)
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=target, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, kind, executable, sha in _entries(store, commit.tree, "", limits.depth):
            content: bytes = b"" if kind == "directory" else store[sha].as_raw_string()
            left -= len(content)
            if left < 0:
                raise Invalid({"data": [f"The files are larger than {limits.total_bytes} bytes together."]})
            link = content.decode("utf-8", "surrogateescape") if kind == "symlink" else ""
            segments, link = check_member(path, kind, link, limits=limits)
            tree.add(segments, kind)
            if kind != "directory":
                _add(tar, path, link, content, executable=executable, mtime=mtime)


def _add(tar: tarfile.TarFile, path: str, link: str, content: bytes, *, executable: bool, mtime: int) -> None:
    member = tarfile.TarInfo(path)
    member.mtime = mtime
    if link:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, link, 0o777
        tar.addfile(member)
        return
    member.size, member.mode = len(content), 0o755 if executable else 0o644
    tar.addfile(member, BytesIO(content))


def _entries(store: Any, tree: bytes, above: str, depth: int) -> Iterator[tuple[str, str, bool, bytes]]:
    """Path, kind, executable bit and id of everything below `tree`, in git's order.

    Directories come too, and submodules as empty ones, so that whoever counts sees a tree that only repeats itself.
    """
    if depth < 0:
        raise Invalid({"data": [f"{show(above)} lies too deep; flatten the directories."]})
    for entry in store[tree].iteritems():
        path = above + _name(entry.path, above)
        kind = entry.mode & 0o170000
        if kind in (_TREE, _GITLINK):
            yield path, "directory", False, entry.sha
        if kind == _TREE:
            yield from _entries(store, entry.sha, path + "/", depth - 1)
        elif kind != _GITLINK:
            yield path, "symlink" if kind == _SYMLINK else "file", bool(entry.mode & 0o100), entry.sha


def _name(raw: bytes, above: str) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid({"data": [f"A name below {show(above)} is not UTF-8; rename it."]}) from error
    if "/" in name or name in ("", ".", ".."):
        raise Invalid({"data": [f"{show(above + name)} is no file name."]})
    return name
