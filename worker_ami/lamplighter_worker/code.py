"""Brings the code of a run onto the machine: fetched, proven to be the right archive, unpacked within bounds."""

from __future__ import annotations

from pathlib import Path

from lamplighter.contract.archive_rules import unpack
from lamplighter.contract.job import Code
from lamplighter_worker.files import remove_tree
from lamplighter_worker.transfer import Transfer


def fetch_code(code: Code, directory: Path, scratch: Path, *, transfer: Transfer | None = None) -> None:
    """Replace `directory` by the tree of the archive. May be repeated; the archive itself is not kept.

    Raises `Forbidden` when the call has expired (ask for the inputs again, which brings a fresh one), `Invalid` for a wrong
    or refused archive, and what `Transfer.download` raises.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    archive = scratch / "code.tar.gz"
    try:
        (transfer or Transfer()).download(code.call, archive, size=code.size, checksums={"sha256": code.sha256})
        remove_tree(directory)
        directory.mkdir(parents=True)
        with archive.open("rb") as stream:
            unpack(stream, directory)
    finally:
        archive.unlink(missing_ok=True)
