"""Keeps files that runs have fetched, so that the next run on this machine need not fetch them again.

A cached file is never given out itself: a run gets a copy (a clone where the file system can), because the run may change
what it gets. One agent owns the directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import uuid
from contextlib import suppress
from pathlib import Path

from lamplighter_worker.transfer import CHUNK, Digest, Hasher

_FICLONE = 0x40049409
_NOTE = ".json"
_DRAFT = "draft-"


class Cache:
    """At most `max_mib` MiB of files by their cache key. What was not used for longest goes first.

    Safe to use from several threads, and after a crash at any point.
    """

    def __init__(self, directory: Path, max_mib: int) -> None:
        self._directory = directory
        self._max = max_mib * 1024 * 1024
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._tidy()
            self._make_room(0)

    def get(self, key: str, path: Path) -> Digest | None:
        """Copy the file kept under `key` to `path`; None if there is none, or it is no longer what was put there."""
        kept = self._place(key)
        note = kept.with_name(kept.name + _NOTE)
        try:
            digest, mtime = _read_note(note)
            if (kept.stat().st_size, kept.stat().st_mtime_ns) == (digest.size, mtime) and _copy(kept, path, digest):
                os.utime(note)
                return digest
        except (OSError, ValueError, KeyError, TypeError):
            pass
        path.unlink(missing_ok=True)
        with self._lock:
            _remove(kept)
        return None

    def put(self, key: str, path: Path, digest: Digest) -> None:
        """Keep a copy of the file at `path`. A file that does not fit, or a full disk, is no error: it is not kept."""
        if digest.size > self._max:
            return
        kept = self._place(key)
        draft = self._directory / f"{_DRAFT}{uuid.uuid4().hex}"
        with self._lock:
            try:
                _remove(kept)
                self._make_room(digest.size)
                if _copy(path, draft, digest):
                    _write_note(kept.with_name(kept.name + _NOTE), digest, draft.stat().st_mtime_ns)
                    os.replace(draft, kept)
            except OSError:
                with suppress(OSError):
                    _remove(kept)
            finally:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        return self._directory / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    def _tidy(self) -> None:
        """Remove what a crash left: drafts, files without a note, notes without a file."""
        names = {entry.name for entry in os.scandir(self._directory) if entry.is_file(follow_symlinks=False)}
        for name in names:
            partner = name.removesuffix(_NOTE) if name.endswith(_NOTE) else name + _NOTE
            if name.startswith(_DRAFT) or partner not in names:
                (self._directory / name).unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> None:
        kept = []
        for entry in os.scandir(self._directory):
            if entry.name.endswith(_NOTE):
                file = self._directory / entry.name.removesuffix(_NOTE)
                with suppress(FileNotFoundError):
                    kept.append((entry.stat().st_mtime_ns, file.stat().st_size, file))
        total = sum(size for _, size, _ in kept)
        for _, size, file in sorted(kept):
            if total + wanted <= self._max:
                return
            _remove(file)
            total -= size


def _remove(kept: Path) -> None:
    kept.unlink(missing_ok=True)
    kept.with_name(kept.name + _NOTE).unlink(missing_ok=True)


def _read_note(note: Path) -> tuple[Digest, int]:
    said = json.loads(note.read_bytes())
    return Digest(said["size"], said["md5"], said["sha1"], said["sha256"]), said["mtime"]


def _write_note(note: Path, digest: Digest, mtime: int) -> None:
    draft = note.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
    draft.write_text(json.dumps({"size": digest.size, **digest.checksums(), "mtime": mtime}), encoding="ascii")
    os.replace(draft, note)


def _copy(source: Path, target: Path, digest: Digest) -> bool:
    """A clone or a copy; false if what was copied is not the file that `digest` describes."""
    with source.open("rb") as file, target.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, file.fileno())
        except OSError:
            hasher = Hasher()
            while data := file.read(CHUNK):
                hasher.update(data)
                copy.write(data)
            return hasher.digest() == digest
    return target.stat().st_size == digest.size
