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
        for path, mode, sha in _files(store, commit.tree, "", limits.depth):
            content: bytes = store[sha].as_raw_string()
            left -= len(content)
            if left < 0:
                raise Invalid({"data": [f"The files are larger than {limits.total_bytes} bytes together."]})
            member = tarfile.TarInfo(path)
            member.mtime = mtime
            kind = "symlink" if mode == _SYMLINK else "file"
            link = content.decode("utf-8", "surrogateescape") if kind == "symlink" else ""
            segments, link = check_member(path, kind, link, limits=limits)
            tree.add(segments, kind)
            if kind == "symlink":
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, link, 0o777
                tar.addfile(member)
                continue
            member.size, member.mode = len(content), 0o755 if mode & 0o100 else 0o644
            tar.addfile(member, BytesIO(content))


def _files(store: Any, tree: bytes, above: str, depth: int) -> Iterator[tuple[str, int, bytes]]:
    """Path, mode and id of each file below `tree`, in git's order. A name that hides a slash or a bad byte is refused."""
    if depth < 0:
        raise Invalid({"data": [f'"{above[:80]}…" lies too deep; flatten the directories.']})
    for entry in store[tree].iteritems():
        try:
            name = entry.path.decode()
        except UnicodeDecodeError as error:
            raise Invalid({"data": [f"A name below {show(above)} is not UTF-8; rename it."]}) from error
        if "/" in name or name in ("", ".", ".."):
            raise Invalid({"data": [f"{show(above + name)} is no file name."]})
        kind = entry.mode & 0o170000
        if kind == _TREE:
            yield from _files(store, entry.sha, f"{above}{name}/", depth - 1)
        elif kind != _GITLINK:
            yield above + name, _SYMLINK if kind == _SYMLINK else entry.mode, entry.sha
