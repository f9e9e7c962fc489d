"""Takes the files of a run's outputs directory to the store: read-only ones while it lives, all others at its end."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from lamplighter.contract.job import Epoch
from lamplighter.contract.report import NewOutput, OutputTarget
from lamplighter.errors import AlreadyExists, Forbidden, Invalid, NotFound, Throttled, TooLarge, Unavailable
from lamplighter_worker.complaints import Complaints
from lamplighter_worker.sidecars import Sidecars, described_by, is_sidecar
from lamplighter_worker.staging import Item, Journal, Staging
from lamplighter_worker.transfer import CHUNK, Cancelled, Changed, Digest, Hasher, Transfer

PARALLEL = 8
MAX_NAME = 1024
_AHEAD = 32
_TRIES = 5
_RETRY_SECONDS = 30.0
_UNREADABLE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR})


class Outputs:
    """The outputs of one attempt. A new one over the same directories continues where a killed one was.

    `announce` and `stored` are called from several threads at once and may be repeated for the same file; `say` only from
    the thread that calls `sweep_live` or `finish`. `visible_directory` is where user code sees `directory`.
    """

    def __init__(
        self,
        directory: Path,
        staging: Path,
        *,
        announce: Callable[[NewOutput], OutputTarget],
        stored: Callable[[str], None],
        epoch: Epoch,
        say: Callable[[str], None],
        visible_directory: str = "/valohai/outputs",
        transfer: Transfer | None = None,
    ) -> None:
        self._directory = directory
        self._visible = visible_directory.rstrip("/")
        self._announce = announce
        self._stored = stored
        self._epoch = epoch
        self._transfer = transfer or Transfer()
        self._staging = Staging(staging / "live")
        self._journal = Journal(staging / "journal.jsonl", epoch)
        self._complaints = Complaints(say)
        self._sidecars = Sidecars(directory, self._complaints.add)
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="outputs")
        self._running: dict[Future[None], Item] = {}
        self._fatal: BaseException | None = None
        self._refused: set[str] = set()
        self._described: set[str] = set()
        self._waiting = deque(self._staging.items())
        self._delayed: deque[tuple[float, Item]] = deque()
        self._next_scan = 0.0

    def sweep_live(self) -> None:
        """Take the read-only files from the run and begin to upload them; returns soon. Raises what `announce` refused
        for good, such as `StaleEpoch`; an unreachable store is tried again later.
        """
        self._collect()
        now = time.monotonic()
        if now >= self._next_scan:
            self._waiting.extend(self._take())
            # A tree that takes long to walk is walked less often: at most a twentieth of the time is spent on it.
            self._next_scan = now + 20 * (time.monotonic() - now)
        while self._delayed and self._delayed[0][0] <= now:
            self._waiting.append(self._delayed.popleft()[1])
        while self._waiting and len(self._running) < _AHEAD:
            item = self._waiting.popleft()
            self._running[self._pool.submit(self._upload, item, aloud=False)] = item
        self._complaints.flush()

    def finish(self) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
        """Upload all that is left, once the run has ended; gives the output ids and the final metadata by file name.

        Raises `Unavailable` when something could not be uploaded for now (call again: only that is tried), and what
        `announce` refused for good.
        """
        while self._running:
            wait(self._running)
            self._collect()
        failures = self._drain((*self._waiting, *(item for _, item in self._delayed)))
        self._waiting.clear()
        self._delayed.clear()
        failures += self._drain(self._files())
        if failures:
            self._delayed.extend((0.0, item) for item in self._staging.items())
            self._complaints.flush()
            raise Unavailable(f"{len(failures)} outputs could not be uploaded; the first: {failures[0]}")
        outputs = self._journal.outputs()
        metadata = {name: self._sidecars.about(name, aloud=True) for name in dict.fromkeys(outputs.values())}
        known = set(outputs.values()) | self._refused
        self._sidecars.strangers(known)
        self._sidecars.lonely([name for name in self._described - known if not _is_file(self._directory / name)])
        self._complaints.flush(summary=True)
        return tuple(outputs), {name: said for name, said in metadata.items() if said}

    def cut(self) -> None:
        """From any thread: no more time. Running uploads end, and `finish` raises `Cancelled`."""
        self._transfer.stop.set()

    def saved(self) -> tuple[tuple[str, ...], dict[str, dict[str, Any]], list[str]]:
        """After a cut: ids and metadata as `finish` gives them, of the outputs that are up; and the names of those that are not."""
        outputs = self._journal.outputs()
        metadata = {name: self._sidecars.about(name, aloud=False) for name in dict.fromkeys(outputs.values())}
        missing = [item.name for item in (*self._staging.items(), *self._files()) if not self._is_up(item)]
        return tuple(outputs), {name: said for name, said in metadata.items() if said}, missing

    def given_up(self) -> dict[str, str]:
        """The outputs that no store takes because of their size, by name, with the reason."""
        return self._journal.given_up()

    def close(self) -> None:
        """Give up: running uploads end with `Cancelled`. What was taken from the run stays in the staging directory."""
        self._transfer.stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _is_up(self, item: Item) -> bool:
        try:
            return self._journal.has(item, item.path.lstat())
        except OSError:
            return False

    def _collect(self) -> None:
        """Look after live uploads that have ended."""
        for future in [future for future in self._running if future.done()]:
            item = self._running.pop(future)
            error = future.exception()
            if isinstance(error, Unavailable | Throttled):
                self._delayed.append((time.monotonic() + _RETRY_SECONDS, item))
            elif error is not None:
                self._fatal = error
        if self._fatal is not None:
            raise self._fatal

    def _take(self) -> Iterator[Item]:
        for name, file, directory, status in self._walk():
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o222 or is_sidecar(name) or _fault_of(name):
                continue
            with suppress(OSError):
                item = self._staging.take(name, file, directory)
                if item is not None:
                    yield item

    def _files(self) -> Iterator[Item]:
        """All outputs in the directory; says why others are none."""
        for name, _, _, status in self._walk():
            fault = _fault_of(name)
            if fault:
                self._complaints.add(f"{name[:200]!a} was not uploaded: {fault}")
            elif is_sidecar(name):
                if not stat.S_ISDIR(status.st_mode):
                    self._described.add(described_by(name) or name)
            elif name in self._refused:
                continue
            elif stat.S_ISREG(status.st_mode):
                yield Item(name, self._directory / name)
            elif stat.S_ISLNK(status.st_mode):
                target = self._target(self._directory / name)
                if target is not None:
                    yield Item(name, target)
                else:
                    self._complaints.add(f"{name} was not uploaded: it is a link to something that is no output file")
            elif not stat.S_ISDIR(status.st_mode):
                self._complaints.add(f"{name} was not uploaded: it is neither a file nor a directory")

    def _walk(self) -> Iterator[tuple[str, str, int, os.stat_result]]:
        """Each entry: its name, its last part, the open directory it is in, its status. Links are never followed."""
        top = str(self._directory)
        if not self._directory.is_dir():
            return

        def complain(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                self._complaints.add(
                    f"{os.path.relpath(error.filename or top, top)!a} could not be read: {error.strerror}"
                )

        for root, directories, files, descriptor in os.fwalk(top, follow_symlinks=False, onerror=complain):
            prefix = "" if root == top else os.path.relpath(root, top) + "/"
            for file in (*directories, *files):
                with suppress(FileNotFoundError):
                    status = os.stat(file, dir_fd=descriptor, follow_symlinks=False)
                    yield prefix + file, file, descriptor, status
            directories[:] = [name for name in directories if len(os.fsencode(prefix + name)) <= MAX_NAME]

    def _target(self, link: Path) -> Path | None:
        """The file that a link means, if that is a regular file inside the outputs directory."""
        try:
            text = os.readlink(link)
            path = (
                self._directory / text.removeprefix(self._visible + "/")
                if text.startswith(self._visible + "/")
                else link
            )
            real = Path(os.path.realpath(path, strict=True))
            inside = real.is_relative_to(os.path.realpath(self._directory))
            return real if inside and stat.S_ISREG(real.lstat().st_mode) else None
        except (OSError, ValueError):
            return None

    def _drain(self, items: Iterable[Item]) -> list[str]:
        """Upload, a bounded number ahead; gives what could not be uploaded for now."""
        failures: list[str] = []
        running: set[Future[None]] = set()
        for item in items:
            running.add(self._pool.submit(self._upload, item, aloud=True))
            if len(running) >= _AHEAD:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                failures += _failures(done)
                self._complaints.flush()
        return failures + _failures(running)

    def _upload(self, item: Item, *, aloud: bool) -> None:
        try:
            for attempt in range(_TRIES):
                try:
                    self._upload_as_it_is(item, item.path, aloud=aloud)
                    break
                except Changed:
                    time.sleep(0.05 * 2**attempt)
            else:
                self._upload_snapshot(item, aloud=aloud)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise Unavailable(f"{item.name}: {error.strerror}") from error
            self._complaints.add(f"{item.name} was not uploaded: it could not be read ({error.strerror})")
            self._refused.add(item.name)
        except (Invalid, TooLarge, AlreadyExists) as error:
            if isinstance(error, TooLarge):
                self._journal.give_up(item.name, str(error))
            self._complaints.add(f"{item.name} was not accepted as an output: {error}")
            self._refused.add(item.name)
        if item.taken:
            self._staging.remove(item)

    def _upload_snapshot(self, item: Item, *, aloud: bool) -> None:
        copy = self._staging.snapshot(item.path)
        try:
            self._complaints.add(f"{item.name} kept changing: it is uploaded as it was at one moment")
            self._upload_as_it_is(item, copy, aloud=aloud)
        finally:
            copy.unlink(missing_ok=True)

    def _upload_as_it_is(self, item: Item, path: Path, *, aloud: bool) -> None:
        status = path.lstat()
        if self._journal.has(item, status):
            return
        digest = _hashed(path, status, self._transfer.stop)
        new = NewOutput(
            epoch=self._epoch,
            name=item.name,
            size=digest.size,
            md5=digest.md5,
            sha1=digest.sha1,
            sha256=digest.sha256,
            metadata=self._sidecars.about(item.name, aloud=aloud),
            file_mtime=status.st_mtime,
        )
        output_id = self._send(new, path, digest)
        try:
            self._stored(output_id)
        except Invalid as error:
            raise Unavailable(f"{item.name} is up, but not accepted: {error}") from error
        self._journal.add(item, digest, status, output_id)

    def _send(self, new: NewOutput, path: Path, digest: Digest) -> str:
        for last in (False, False, True):
            target = self._announce(new)
            if target.call is None:
                return target.output_id
            try:
                self._transfer.upload(target.call, path, sha256=digest.sha256)
            except (Forbidden, Invalid, NotFound) as error:
                # The URL may have expired: a fresh one is asked for. A fault of the store must not cost the output.
                if last:
                    raise Unavailable(f"{new.name}: {error}") from error
            else:
                return target.output_id
        raise Unavailable(f"{new.name} was not tried at all")


def _is_file(path: Path) -> bool:
    """Whether anything but a directory is there; links count, they are spoken of elsewhere."""
    try:
        return not stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _fault_of(name: str) -> str | None:
    """Why this name cannot be an output's, or None."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8 text"
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "its name holds control characters"
    return f"its name is longer than {MAX_NAME} bytes" if size > MAX_NAME else None


def _hashed(path: Path, before: os.stat_result, stop: threading.Event) -> Digest:
    """The digest of a file that held still meanwhile. Raises `Changed` if it did not, `Cancelled` once `stop` is set."""
    hasher = Hasher()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            hasher.update(data)
            if stop.is_set():
                raise Cancelled(f"{path.name} was not read to its end")
        after = os.fstat(descriptor)
    same = (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
    if not same or hasher.size != after.st_size:
        raise Changed(f"{path.name} changed while it was read")
    return hasher.digest()


def _failures(done: Iterable[Future[None]]) -> list[str]:
    """What may be tried again. Raises what may not."""
    failures = []
    for future in done:
        try:
            future.result()
        except (Unavailable, Throttled) as error:
            failures.append(str(error))
    return failures
