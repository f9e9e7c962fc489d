"""Brings the inputs of a run onto the machine, and says in `inputs.json` what is where."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamplighter.contract.job import Call, Input, InputFile
from lamplighter.errors import Forbidden, Invalid, LamplighterError, NotFound, Throttled, Unavailable
from lamplighter_worker.cache import Cache
from lamplighter_worker.progress import Hindrances, ProgressTeller
from lamplighter_worker.transfer import Digest, Patience, Transfer

PARALLEL = 4
_REFRESHES = 3
_TICK = 1.0
_BAD_NAME = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})


def fetch_inputs(
    inputs: tuple[Input, ...],
    *,
    directory: Path,
    cache: Cache | None,
    networks: str,
    refresh: Callable[[], tuple[Input, ...]],
    phase: Callable[[str], None],
    say: Callable[[str], None],
    visible_directory: str | None = None,
    trusted_origin: str | None = None,
    patience: Patience | None = None,
) -> dict[str, Any]:
    """Fetch every file that has a call, below `directory`/<input name>/, and give the content of `inputs.json`.

    Paths in it begin with `visible_directory`, where user code sees `directory` (default: the same). `networks` is judged
    by `url_guard`, except for calls to `trusted_origin`. `refresh` is asked, from several threads but one at a time, for
    fresh calls when one has expired. `phase` is told the progress about every second, with what holds it up; `say` is told
    progress and hindrances for the log, each once. Both are called from the calling thread; what they raise ends the
    fetching. Of two files with one path in an input the later one wins. May be repeated.

    Raises `Invalid`, `NotFound`, `Forbidden`, `Unavailable` or `Throttled` naming the input and the file; `OSError` for
    faults of the disk.
    """
    wanted = [(entry, _checked(entry)) for entry in inputs]
    transfer = Transfer(networks, trusted_origin, patience or Patience())
    fetching = _Fetching(directory, cache, transfer, _Calls(refresh), Hindrances())
    for entry, _ in wanted:
        (directory / entry.name).mkdir(parents=True, exist_ok=True)
    tasks = [(entry, file) for entry, files in wanted for file in files if file.call is not None]
    digests = _in_parallel(fetching, tasks, ProgressTeller(len(tasks), fetching.hindrances, phase, say))
    visible = (visible_directory if visible_directory is not None else str(directory)).rstrip("/")
    return {
        entry.name: {
            "input_id": entry.input_id,
            "files": [
                _described(file, f"{visible}/{entry.name}/{file.path}", digests.get((entry.name, file.path)))
                for file in files
            ],
        }
        for entry, files in wanted
    }


def _checked(entry: Input) -> tuple[InputFile, ...]:
    """The files by path, the last of each, once name and paths are known to stay below the directory."""
    if not _is_path(entry.name) or "/" in entry.name:
        raise Invalid.because(f"input {ascii(entry.name)[:200]} cannot be a directory's name")
    for file in entry.files:
        if not _is_path(file.path):
            raise Invalid.because(
                f"input {entry.name}: {ascii(file.path)[:200]} is no path below the input's directory"
            )
    return tuple({file.path: file for file in entry.files}.values())


def _is_path(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text and all(part not in ("", ".", "..") for part in text.split("/"))


def _described(file: InputFile, path: str, digest: Digest | None) -> dict[str, Any]:
    """The entry of one file, without the keys that nothing is known for."""
    size = digest.size if digest else file.size
    checksums = {**(digest.checksums() if digest else {}), **file.checksums}
    entry: dict[str, Any] = {"name": file.name, "path": path if digest else None, "uri": file.uri}
    if size is not None:
        entry["size"] = size
    if checksums:
        entry["checksums"] = checksums
    if file.metadata:
        entry["metadata"] = [dict(item) for item in file.metadata]
    if file.datum_id is not None:
        entry["datum_id"] = file.datum_id
    return entry


def _in_parallel(
    fetching: _Fetching, tasks: list[tuple[Input, InputFile]], teller: ProgressTeller
) -> dict[tuple[str, str], Digest]:
    running: dict[Future[Digest], tuple[str, str]] = {}
    pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="inputs")
    try:
        for entry, file in tasks:
            running[pool.submit(fetching.fetch, entry, file)] = (entry.name, file.path)
        for done in _progress(set(running)):
            teller.tell(done)
        return {place: future.result() for future, place in running.items()}
    finally:
        fetching.transfer.stop.set()
        pool.shutdown(cancel_futures=True)


def _progress(waiting: set[Future[Digest]]) -> Iterator[int]:
    """How many are done, about every second and at the end; raises what the first failure raised."""
    total = len(waiting)
    while waiting:
        yield total - len(waiting)
        done, waiting = wait(waiting, timeout=_TICK, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    if total:
        yield total


class _Calls:
    """The newest calls, asked for once per expiry whatever number of files notice it."""

    def __init__(self, refresh: Callable[[], tuple[Input, ...]]) -> None:
        self._refresh = refresh
        self._lock = threading.Lock()
        self._fresh: Mapping[tuple[str, str], Call | None] = {}

    def current(self, entry: Input, file: InputFile) -> Call | None:
        return self._fresh.get((entry.name, file.path), file.call)

    def after(self, expired: Call | None, entry: Input, file: InputFile) -> Call | None:
        """A call other than `expired`, or None if there is none."""
        with self._lock:
            if self.current(entry, file) == expired:
                self._fresh = {(i.name, f.path): f.call for i in self._refresh() for f in i.files}
            fresh = self.current(entry, file)
        return None if fresh == expired else fresh


@dataclass(frozen=True)
class _Fetching:
    directory: Path
    cache: Cache | None
    transfer: Transfer
    calls: _Calls
    hindrances: Hindrances

    def fetch(self, entry: Input, file: InputFile) -> Digest:
        path = self.directory / entry.name / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or path.is_file():
                path.unlink()
            return self._from_cache(file, path) or self._from_afar(entry, file, path)
        except (Invalid, NotFound, Forbidden, Unavailable, Throttled) as error:
            raise _explained(error, f"input {entry.name}, file {file.path}: ") from error
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            raise Invalid.because(
                f"input {entry.name}: file {file.path[:300]} cannot have this name ({error.strerror})"
            ) from error

    def _from_cache(self, file: InputFile, path: Path) -> Digest | None:
        digest = self.cache.get(file.cache_key, path) if self.cache and file.cache_key else None
        if digest is None or digest.differs(file.size, file.checksums) is not None:
            return None
        return digest

    def _from_afar(self, entry: Input, file: InputFile, path: Path) -> Digest:
        call = self.calls.current(entry, file)
        for last in (False,) * _REFRESHES + (True,):
            try:
                digest = self._download(entry, replace(file, call=call), path)
                break
            except Forbidden:
                fresh = None if last else self.calls.after(call, entry, file)
                if fresh is None:
                    raise
                call = fresh
        if self.cache and file.cache_key:
            self.cache.put(file.cache_key, path, digest)
        return digest

    def _download(self, entry: Input, file: InputFile, path: Path) -> Digest:
        if file.call is None:
            raise Forbidden(f"{file.name} may no longer be fetched")
        with self.hindrances.of(entry.name) as hindrance:
            return self.transfer.download(
                file.call,
                path,
                size=file.size,
                checksums=file.checksums,
                progress=hindrance.over,
                again=hindrance.again,
            )


def _explained(error: LamplighterError, where: str) -> LamplighterError:
    for kind in (NotFound, Forbidden, Throttled, Unavailable):
        if isinstance(error, kind):
            return kind(f"{where}{error}")
    return Invalid.because(f"{where}{error}")
