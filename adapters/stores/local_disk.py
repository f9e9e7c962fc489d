"""Objects as files below one folder: the store of a single server, served by its own HTTP door through signed URLs."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from adapters.stores import rules, signing
from adapters.stores.signing import SignedCall
from lamplighter.errors import Invalid, NotFound, Unavailable
from lamplighter.ports import Clock, ObjectInfo, Target

ABANDONED_SECONDS = 24 * 3600
"""An upload that has not grown for this long belongs to a process that died."""

_ADOPT_TRIES = 50


class LocalDiskStore:
    """The `Store` port below the folder `root`, which is made if it is not there; all of it must be one file system.

    Safe with many threads and processes. An object is on the disk, beyond power loss, when `put` returns. One key cannot be
    the folder of another ("a" and "a/b"): the second is refused with `Invalid`. `base_url` is where clients reach the
    HTTP door, which must ask `verify` about every call below `/objects/`; `signing_key` must be secret and 16 bytes or more.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, base_url: Callable[[], str] | str, signing_key: bytes, clock: Clock
    ) -> None:
        if len(signing_key) < 16:
            raise Invalid({"signing_key": ["the signing key of a local store needs 16 random bytes or more"]})
        self._objects = os.path.join(os.fspath(root), "objects")
        self._incoming = os.path.join(os.fspath(root), "incoming")
        self._base_url = base_url
        self._signing_key = signing_key
        self._clock = clock
        with _disk("opening the store in", os.fspath(root)):
            for folder in (self._objects, self._incoming):
                os.makedirs(folder, mode=0o700, exist_ok=True)
            _sync_folder(os.fspath(root))
            self._remove_abandoned()

    def put(self, key: str, body: BinaryIO, *, size: int) -> None:
        with self.writer(key, size) as upload:
            # One byte more than announced is asked for, so that a longer body is noticed.
            while piece := body.read(min(rules.PIECE, size - upload.received + 1)):
                upload.write(piece)

    def writer(self, key: str, size: int) -> Upload:
        """An upload of `size` bytes that arrives in pieces. Raises `AlreadyWritten` at once if the key is taken.

        Use it as a context manager: it commits at the end of the block and aborts when the block raises.
        """
        rules.check_key(key)
        rules.check_size(size)
        with _disk("writing", key):
            if os.path.lexists(self._path(key)):
                raise self._taken(key)
        return Upload(self, key, size)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        rules.check_key(key)
        rules.check_range(start, end)
        with _disk("reading", key):
            file = self._open(key)
            wanted = os.fstat(file.fileno()).st_size if end is None else end
            file.seek(start)
        return _pieces(key, file, wanted - start)

    def head(self, key: str) -> ObjectInfo:
        rules.check_key(key)
        with _disk("reading", key), self._open(key) as file:
            return ObjectInfo(key, os.fstat(file.fileno()).st_size)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        rules.check_prefix(prefix)
        folder, _, start_of_name = prefix.rpartition("/")
        return self._walk(folder + "/" if folder else "", start_of_name)

    def delete(self, key: str) -> None:
        rules.check_key(key)
        with _disk("deleting", key):
            try:
                os.unlink(self._path(key))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            folder = os.path.dirname(self._path(key))
            _sync_folder(folder)
            self._remove_empty(folder)

    def presign_get(self, key: str, *, seconds: int, filename: str | None = None) -> Target:
        return self._presign(SignedCall("GET", key, filename=filename), seconds)

    def presign_put(self, key: str, *, seconds: int, size: int) -> Target:
        rules.check_size(size)
        return self._presign(SignedCall("PUT", key, size=size), seconds)

    def verify(self, method: str, path_key: str, query: Mapping[str, str], now: datetime) -> SignedCall:
        """The call that a URL of this store allows; for the HTTP door. Raises `Forbidden` as `signing.verify` does."""
        return signing.verify(self._signing_key, method, path_key, query, now)

    def _presign(self, call: SignedCall, seconds: int) -> Target:
        rules.check_key(call.key)
        rules.check_seconds(seconds)
        base = self._base_url if isinstance(self._base_url, str) else self._base_url()
        url = base.rstrip("/") + signing.sign(self._signing_key, call, seconds=seconds, now=self._clock())
        return Target(call.method, url, {} if call.size is None else {"Content-Length": str(call.size)})

    def _path(self, key: str) -> str:
        return os.path.join(self._objects, *key.split("/"))

    def _open(self, key: str) -> BinaryIO:
        try:
            return open(self._path(key), "rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise rules.not_found(key) from None

    def _taken(self, key: str) -> Exception:
        if os.path.isdir(self._path(key)):
            return Invalid({"key": [f"{key} is the folder of other objects and cannot be an object itself"]})
        return rules.already_written(key)

    def _adopt(self, key: str, temporary: str) -> None:
        """Gives a finished file its name. A link, unlike a rename, never replaces what is there."""
        path = self._path(key)
        for _ in range(_ADOPT_TRIES):
            try:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                os.link(temporary, path)
            except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
                # A delete that takes an emptied folder away just now looks like all of these: then the next try succeeds.
                if os.path.lexists(path):
                    raise self._taken(key) from error
                if self._below_an_object(path):
                    message = f"{key} lies below another object: one key cannot be the folder of another"
                    raise Invalid({"key": [message]}) from error
            else:
                return self._sync_above(path)
        raise Unavailable(f"writing {key}: its folder keeps disappearing; try again, and look for who deletes it")

    def _sync_above(self, path: str) -> None:
        folder = os.path.dirname(path)
        while len(folder) >= len(self._objects):
            _sync_folder(folder)
            folder = os.path.dirname(folder)

    def _below_an_object(self, path: str) -> bool:
        folder = os.path.dirname(path)
        while len(folder) > len(self._objects):
            if os.path.isfile(folder):
                return True
            folder = os.path.dirname(folder)
        return False

    def _walk(self, folder: str, start_of_name: str) -> Iterator[ObjectInfo]:
        """Objects below `folder` ("" or "x/y/") in key order: a folder sorts as its name with a slash behind it."""
        with _disk("listing", folder):
            entries = self._entries(folder, start_of_name)
        for _, name, is_folder in entries:
            if is_folder:
                yield from self._walk(f"{folder}{name}/", "")
                continue
            # An object that was deleted since its folder was read is left out.
            with contextlib.suppress(NotFound):
                yield self.head(folder + name)

    def _entries(self, folder: str, start_of_name: str) -> Any:
        try:
            with os.scandir(os.path.join(self._objects, folder)) as found:
                kept = [(entry.name, entry.is_dir()) for entry in found if entry.name.startswith(start_of_name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((os.fsencode(name + "/" if is_folder else name), name, is_folder) for name, is_folder in kept)

    def _remove_empty(self, folder: str) -> None:
        while len(folder) > len(self._objects):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def _remove_abandoned(self) -> None:
        oldest = self._clock().timestamp() - ABANDONED_SECONDS
        for left in Path(self._incoming).iterdir():
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < oldest:
                    left.unlink()


class Upload:
    """An object on its way in. Nothing is to be seen of it before `commit` returns, and nothing ever after `abort`."""

    def __init__(self, store: LocalDiskStore, key: str, size: int) -> None:
        self.key = key
        self.size = size
        self.received = 0
        self._store = store
        self._path = os.path.join(store._incoming, secrets.token_hex(16))
        with _disk("writing", key):
            self._fd: int | None = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def write(self, piece: bytes) -> None:
        """Takes the next bytes. Raises `Invalid`, and aborts, as soon as more than `size` came."""
        if self._fd is None:
            raise ValueError(f"the upload of {self.key} has ended")
        if self.received + len(piece) > self.size:
            self.abort()
            raise rules.wrong_size(self.key, self.size, "more")
        view = memoryview(piece)
        with _disk("writing", self.key):
            while view:
                view = view[os.write(self._fd, view) :]
        self.received += len(piece)

    def commit(self) -> None:
        """Makes the object durable and visible, at once and whole. Raises `AlreadyWritten`, or `Invalid` if bytes lack."""
        if self._fd is None:
            raise ValueError(f"the upload of {self.key} has ended")
        try:
            if self.received != self.size:
                raise rules.wrong_size(self.key, self.size, str(self.received))
            with _disk("writing", self.key):
                os.fsync(self._fd)
                self._store._adopt(self.key, self._path)
        finally:
            self.abort()

    def abort(self) -> None:
        """Forgets what came. Repeatable; after `commit` it does nothing."""
        if self._fd is None:
            return
        os.close(self._fd)
        self._fd = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()
        elif self._fd is not None:
            self.commit()


def _pieces(key: str, file: BinaryIO, wanted: int) -> Iterator[bytes]:
    with file:
        while wanted > 0:
            with _disk("reading", key):
                piece = file.read(min(rules.PIECE, wanted))
            if not piece:
                return
            wanted -= len(piece)
            yield piece


def _sync_folder(folder: str) -> None:
    """Makes the names in a folder durable. A folder that a delete just removed has nothing left to lose."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def _disk(attempt: str, what: str) -> Iterator[None]:
    """Turns what the operating system says about the disk into an explained failure."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "the disk is full: free some space" if full else "look at the disk and its permissions"
        raise Unavailable(
            f"{attempt} {what} failed on the disk ({error.strerror}); {advice}, then try again"
        ) from error
