"""What must outlive the agent about a run's outputs: files that were taken from it, and what has been uploaded."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamplighter.contract.job import Epoch
from lamplighter_worker.files import read_json, write_json
from lamplighter_worker.transfer import Digest


@dataclass(frozen=True, slots=True)
class Item:
    """A file to upload. One that was `taken` from the run lies in the staging directory and goes away once it is up."""

    name: str
    path: Path
    taken: bool = False


class Staging:
    """Files taken from a run while it lives. After a crash each is either still the run's or here, with its name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.suffix != ".data" and not path.with_suffix(".data").exists():
                path.unlink(missing_ok=True)

    def take(self, name: str, file: str, directory: int) -> Item | None:
        """Move `file` of the open `directory` here, as the output `name`; None if it is no regular file any more.

        Raises `OSError` when it cannot be moved; it then stays where it is.
        """
        self._directory.mkdir(parents=True, exist_ok=True)  # the run's directories were cleared since we began
        data = self._directory / f"{uuid.uuid4().hex}.data"
        write_json(data.with_suffix(".json"), {"name": name})
        try:
            _move(file, directory, data)
        except OSError:
            data.with_suffix(".json").unlink()
            raise
        item = Item(name, data, taken=True)
        if not stat.S_ISREG(data.lstat().st_mode):
            self.remove(item)
            return None
        with suppress(OSError):
            data.chmod(0o400)
        return item

    def items(self) -> Iterator[Item]:
        """All that is here."""
        for data in sorted(self._directory.glob("*.data")):
            note = read_json(data.with_suffix(".json"))
            if isinstance(note, dict) and isinstance(note.get("name"), str):
                yield Item(note["name"], data, taken=True)

    def snapshot(self, path: Path) -> Path:
        """A copy of a file that will not hold still; remove it after use."""
        self._directory.mkdir(parents=True, exist_ok=True)
        copy = self._directory / f"{uuid.uuid4().hex}.copy"
        shutil.copyfile(path, copy, follow_symlinks=False)
        return copy

    @staticmethod
    def remove(item: Item) -> None:
        """The file is up, or given up."""
        item.path.unlink(missing_ok=True)
        item.path.with_suffix(".json").unlink(missing_ok=True)


class Journal:
    """What was uploaded under one epoch: a line per file. Torn lines are forgotten: the file is then offered again."""

    def __init__(self, path: Path, epoch: Epoch) -> None:
        self._path = path
        self._epoch = str(epoch)
        self._lock = threading.Lock()
        self._seen: set[tuple[str, ...]] = set()
        self._outputs: dict[str, str] = {}
        self._given_up: dict[str, str] = {}
        for said in _lines(path):
            if said.get("epoch") == self._epoch:
                self._remember(said)

    def add(self, item: Item, digest: Digest, status: os.stat_result, output_id: str) -> None:
        """The file is up. Certain to be remembered when this returns."""
        said = {
            "epoch": self._epoch,
            "name": item.name,
            "sha256": digest.sha256,
            "size": digest.size,
            "mtime": status.st_mtime,
            "output_id": output_id,
            "state": [] if item.taken else _state(item.name, status),
        }
        with self._lock, self._path.open("ab") as file:
            file.write(json.dumps(said).encode() + b"\n")
            file.flush()
            if item.taken:
                os.fsync(file.fileno())  # the only copy is removed next
            self._remember(said)

    def has(self, item: Item, status: os.stat_result) -> bool:
        """Whether this very file, untouched since, is up. Never true for taken files: those are removed instead."""
        with self._lock:
            return not item.taken and tuple(_state(item.name, status)) in self._seen

    def outputs(self) -> dict[str, str]:
        """Names by output id, in the order of uploading."""
        with self._lock:
            return dict(self._outputs)

    def give_up(self, name: str, why: str) -> None:
        """The store never takes this output. Remembered when this returns: the end of the run must tell it."""
        said = {"epoch": self._epoch, "name": name, "given_up": why}
        with self._lock, self._path.open("ab") as file:
            file.write(json.dumps(said).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())  # a taken file is removed next
            self._remember(said)

    def given_up(self) -> dict[str, str]:
        """Why, by the names of those outputs."""
        with self._lock:
            return dict(self._given_up)

    def _remember(self, said: dict[str, Any]) -> None:
        if "given_up" in said:
            self._given_up[said["name"]] = said["given_up"]
            return
        if said["state"]:
            self._seen.add(tuple(said["state"]))
        self._outputs.setdefault(said["output_id"], said["name"])


def _state(name: str, status: os.stat_result) -> list[str]:
    # The change time cannot be set by a program, so a rewritten file never passes for the old one.
    return [name, *map(str, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines; a torn last one is cut off, so that the next one begins a line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = 0
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(end)
                return
            end += len(line)
            with suppress(ValueError):
                yield json.loads(line)


def _move(file: str, directory: int, target: Path) -> None:
    try:
        os.rename(file, target, src_dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(file, directory, target)


def _copy_over(file: str, directory: int, target: Path) -> None:
    """A move to another file system: wholly there first, then gone here."""
    draft = target.with_suffix(".part")
    source = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        with open(source, "rb", closefd=False) as reader, draft.open("wb") as writer:
            status = os.fstat(source)
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
        os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns))
        draft.replace(target)
        os.unlink(file, dir_fd=directory)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(source)
