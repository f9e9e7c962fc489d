"""Reads what a run says about its outputs: `<file>.metadata.json` beside a file, and `valohai.metadata.jsonl`."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

LINES_NAME = "valohai.metadata.jsonl"
SUFFIX = ".metadata.json"
MAX_SIDECAR = 1024 * 1024
MAX_LINES = 64 * 1024 * 1024
_LONELY = 20

Metadata = dict[str, Any]


def is_sidecar(name: str) -> bool:
    """Whether the file of this name (relative to the outputs directory) is metadata and no output itself."""
    return name == LINES_NAME or described_by(name) is not None


def described_by(name: str) -> str | None:
    """The output that a sidecar is about; None if `name` is no sidecar."""
    output = name.removesuffix(SUFFIX)
    return None if output == name or output.endswith("/") or not output else output


class Sidecars:
    """What the files in an outputs directory say about outputs, now. Safe to use from several threads.

    While the run lives a half-written file is no fault: ask quietly, and aloud at the end. `say` is told faults, each once.
    """

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say
        self._said: set[str] = set()
        self._lines = _Lines(directory / LINES_NAME)
        self._lock = threading.Lock()

    def about(self, name: str, *, aloud: bool) -> Metadata:
        """The metadata of one output: its lines in order, then its sidecar, later keys winning. Empty if nothing is said."""
        with self._lock:
            self._lines.catch_up(final=aloud)
            faults = list(self._lines.faults)
            metadata = dict(self._lines.by_file.get(name, {}))
            try:
                metadata |= _read_sidecar(self._directory / (name + SUFFIX))
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                faults.append(f"{name}{SUFFIX} was ignored: {_because(error)}")
            if aloud:
                self._tell(faults)
        return metadata

    def strangers(self, names: set[str]) -> None:
        """Say which files `valohai.metadata.jsonl` speaks of that are not among `names`."""
        with self._lock:
            self._lines.catch_up(final=True)
            unknown = sorted(set(self._lines.by_file) - names)
            faults = [*self._lines.faults]
            faults += [f"{LINES_NAME} speaks of {name[:300]!a}, which is no output" for name in unknown[:20]]
            if len(unknown) > 20:
                faults.append(f"{LINES_NAME} speaks of {len(unknown) - 20} more files which are no outputs")
            self._tell(faults)

    def lonely(self, names: Collection[str]) -> None:
        """Say which sidecars are about nothing; `names` are the outputs that they would describe."""
        faults = [
            f"{name}{SUFFIX} was ignored: there is no file {name} that it could describe"
            for name in sorted(names)[:_LONELY]
        ]
        if len(names) > _LONELY:
            faults.append(
                f"{len(names) - _LONELY} more {SUFFIX} files were ignored: the files they describe are not there"
            )
        with self._lock:
            self._tell(faults)

    def _tell(self, faults: list[str]) -> None:
        for fault in faults:
            if fault not in self._said:
                self._said.add(fault)
                self._say(fault)


class _Lines:
    """`valohai.metadata.jsonl`, read on from where it was left. `faults` are those of the lines read so far, the first few."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._number = 0
        self.by_file: dict[str, Metadata] = {}
        self.faults: list[str] = []

    def catch_up(self, *, final: bool) -> None:
        """Read complete lines, at the end also an unfinished last one."""
        try:
            file = _open(self._path)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._complain(f"{LINES_NAME} was ignored: {_because(error)}")
            return
        with file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self._identity or status.st_size < self._offset:
                self._identity = (status.st_dev, status.st_ino)
                self._offset = self._number = 0
                self.by_file.clear()
                self.faults.clear()
            file.seek(self._offset)
            self._read(file, final=final)
        if final and self._offset >= MAX_LINES and status.st_size > self._offset:
            self._complain(f"{LINES_NAME} was read up to {MAX_LINES >> 20} MiB: what follows was ignored")

    def _read(self, file: BinaryIO, *, final: bool) -> None:
        while self._offset < MAX_LINES:
            line = file.readline(MAX_SIDECAR + 1)
            rest = line
            while len(rest) > MAX_SIDECAR and not rest.endswith(b"\n"):
                rest = file.readline(MAX_SIDECAR + 1)
            if not line or not (rest.endswith(b"\n") or final):
                return
            self._offset = file.tell()
            self._number += 1
            try:
                self._take(line)
            except ValueError as error:
                self._complain(f"{LINES_NAME}, line {self._number} was ignored: {_because(error)}")

    def _complain(self, fault: str) -> None:
        if len(self.faults) < 20 and fault not in self.faults:
            self.faults.append(fault)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        said = parse_object(line)
        name, metadata = said.get("file"), said.get("metadata")
        if not isinstance(name, str) or not isinstance(metadata, dict):
            raise ValueError('it needs a "file" (text) and "metadata" (an object)')  # noqa: TRY004 - a fault of the value
        self.by_file.setdefault(name, {}).update(metadata)


def parse_object(data: bytes) -> Metadata:
    """The JSON object in `data`. Raises `ValueError` for anything else, and for what cannot be sent on as UTF-8 JSON."""
    if len(data) > MAX_SIDECAR:
        raise ValueError(f"it is larger than {MAX_SIDECAR >> 10} KiB")
    try:
        value = json.loads(data, parse_constant=_no_constant)
        if not isinstance(value, Mapping):
            raise ValueError("it is not a JSON object")  # noqa: TRY004 - a fault of the value
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at position {error.pos})") from None
    return dict(value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _read_sidecar(path: Path) -> Metadata:
    with _open(path) as file:
        return parse_object(file.read(MAX_SIDECAR + 1))


def _open(path: Path) -> BinaryIO:
    """A regular file, opened so that neither a link nor a pipe can lead or hold us elsewhere."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def _because(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
