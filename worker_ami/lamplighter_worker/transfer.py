"""Moves files by HTTP: streamed, hashed on the way, repeated with patience, and resumed where the server can.

Proxies of the environment are not used. Names and passwords in a URL are sent as basic authorization and never shown.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin

from lamplighter.contract.job import Call
from lamplighter.errors import Forbidden, Invalid, LamplighterError, NotFound, Throttled, Unavailable
from lamplighter_worker.url_guard import Endpoint, check, connect, safe_url, same_origin

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

Progress = Callable[[int, int | None], None]
"""Told the bytes done so far and the total, if known. What it raises ends the transfer."""

Again = Callable[[str, str], None]
"""Told the URL, fit for logs, and why it is tried again. Called in the thread of the transfer; must not raise."""

CHUNK = 256 * 1024
REDIRECTS = 5
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 522, 524, 529})
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_EXPIRED = re.compile(rb"expired", re.IGNORECASE)


class Cancelled(LamplighterError):
    """Somebody set `stop` while the transfer ran."""

    code = "cancelled"


class Changed(LamplighterError):
    """A file was not, while it was sent, what it was when it was hashed. The server keeps nothing of it."""

    code = "changed"


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file is: its size in bytes and its hashes as lower-case hexadecimal."""

    size: int
    md5: str
    sha1: str
    sha256: str

    def checksums(self) -> dict[str, str]:
        """The three hashes by name."""
        return {"md5": self.md5, "sha1": self.sha1, "sha256": self.sha256}

    def differs(self, size: int | None, checksums: Mapping[str, str] | None) -> str | None:
        """The first known value that this file does not have, or None. Unknown kinds of hashes are not judged."""
        if size is not None and size != self.size:
            return f"it has {self.size} bytes, not {size}"
        for name, own in self.checksums().items():
            wanted = (checksums or {}).get(name)
            if wanted and wanted.lower() != own:
                return f"its {name} is {own}, not {wanted}"
        return None


class Hasher:
    """Takes bytes, gives a `Digest`."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes = tuple(hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256"))

    def update(self, data: bytes) -> None:
        """More of the file."""
        self.size += len(data)
        for digest in self._hashes:
            digest.update(data)

    def digest(self) -> Digest:
        """What was taken so far."""
        md5, sha1, sha256 = (digest.hexdigest() for digest in self._hashes)
        return Digest(self.size, md5, sha1, sha256)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try without any progress, and how long to wait between, in seconds (doubling, jittered)."""

    attempts: int = 8
    first_delay: float = 0.5
    longest_delay: float = 30.0
    timeout: float = 60.0


@dataclass(frozen=True)
class Transfer:
    """How to transfer: from which networks, with which origin trusted wherever it lies, and how patiently.

    `stop` ends running transfers with `Cancelled`.
    """

    networks: str = "any"
    trusted_origin: str | None = None
    patience: Patience = Patience()
    stop: threading.Event = field(default_factory=threading.Event)

    def download(
        self,
        call: Call,
        path: Path,
        *,
        size: int | None = None,
        checksums: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        again: Again | None = None,
    ) -> Digest:
        """Fetch `call` into `path`, which is written anew and removed on failure.

        Raises `Invalid` for a refused or faulty URL or wrong content, `NotFound`, `Forbidden` (401, 403, 410 or an expired
        signature: ask for a fresh call), `Unavailable` or `Throttled` when patience ran out.
        """
        download = _Download(self, call, path, size, checksums, progress)
        try:
            for attempt in self._attempts(download.progressed, again):
                with attempt:
                    return download.run()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        raise Unavailable(f"{safe_url(call.url)} was not tried at all")

    def upload(self, call: Call, path: Path, *, sha256: str | None = None) -> None:
        """Send the file at `path` as the body of `call`. A write-once answer (409, 412) counts as stored.

        With `sha256` the last bytes are only sent if all bytes were the expected ones; else `Changed` is raised and the
        server, which was promised more, keeps nothing. Other errors are as in `download`; `OSError` if the file is
        unreadable.
        """
        for attempt in self._attempts(lambda: False):
            with attempt:
                _upload(self, call, path, sha256)
                return

    def open(self, call: Call, headers: Mapping[str, str], *, trusted: bool) -> HTTPConnection:
        """A connection for `call`, with the request line and all headers sent. Raises `_Fault` for what may pass."""
        try:
            endpoint = check(call.url, "any" if trusted else self.networks)
        except Unavailable as error:
            raise _Fault(error, call.url, "its host's name could not be resolved") from None
        with _network(call.url):
            connection = connect(endpoint, self.patience.timeout)
        try:
            with _network(call.url):
                connection.putrequest(call.method, endpoint.target, skip_host=True, skip_accept_encoding=True)
                for name, value in _headers(call, endpoint, headers).items():
                    connection.putheader(name, value)
                connection.endheaders()
        except BaseException:
            connection.close()
            raise
        return connection

    def trusts(self, url: str) -> bool:
        """Whether `url` lies at the trusted origin."""
        return self.trusted_origin is not None and same_origin(url, self.trusted_origin)

    def _attempts(self, progressed: Callable[[], bool], again: Again | None = None) -> Iterator[_Attempt]:
        failures = 0
        while True:
            if self.stop.is_set():
                raise Cancelled("the transfer was cancelled")
            attempt = _Attempt(last=failures + 1 >= self.patience.attempts)
            yield attempt
            if again and attempt.fault:
                again(safe_url(attempt.fault.url), attempt.fault.reason)
            failures = 0 if progressed() else failures + 1
            delay = min(self.patience.first_delay * 2.0**failures, self.patience.longest_delay)
            asked = attempt.fault.retry_after if attempt.fault else 0.0
            self.stop.wait(max(asked, delay * random.uniform(0.5, 1.0)))  # noqa: S311 - only jitter


class _Fault(Exception):
    """Something that may pass. `error` is what to raise when patience is out, `reason` its short form for `url`."""

    def __init__(self, error: LamplighterError, url: str, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.url = url
        self.reason = reason
        self.retry_after = retry_after


class _Attempt:
    """One try: swallows a passing fault unless it is the last try."""

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self.fault: _Fault | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, _Fault):
            return False
        if self._last:
            raise error.error from None
        self.fault = error
        return True


class _Download:
    """A download over all its tries: what is on disk, and what the server said it belongs to."""

    def __init__(
        self,
        transfer: Transfer,
        call: Call,
        path: Path,
        size: int | None,
        checksums: Mapping[str, str] | None,
        progress: Progress | None,
    ) -> None:
        self._transfer = transfer
        self._call = call
        self._path = path
        self._size = size
        self._checksums = checksums
        self._progress = progress
        self._hasher = Hasher()
        self._validator: str | None = None
        self._mended = False
        self._before = 0

    def progressed(self) -> bool:
        """Whether the last try brought bytes that the next one can build on."""
        gained = self._validator is not None and self._hasher.size > self._before
        self._before = self._hasher.size
        return gained

    def run(self) -> Digest:
        offset = self._hasher.size if self._validator else 0
        headers = {"Range": f"bytes={offset}-", "If-Range": self._validator or ""} if offset else {}
        with _get(self._transfer, self._call, headers) as response:
            resumed = offset > 0 and response.status == 206 and _starts_at(response, offset)
            if not resumed and response.status == 206:
                self._validator = None
                raise _unavailable(self._call.url, "answered with another part than was asked for")
            if not resumed:
                self._hasher = Hasher()
                self._validator = _validator(response)
            self._receive(response, append=resumed)
        return self._judge(resumed)

    def _receive(self, response: HTTPResponse, *, append: bool) -> None:
        length = response.length
        end = None if length is None else self._hasher.size + length
        if self._size is not None and end is not None and end != self._size:
            self._refuse(f"it has {end} bytes, not {self._size}")
        with self._path.open("ab" if append else "wb") as file:
            if append:
                file.truncate(self._hasher.size)
            while data := self._read(response):
                file.write(data)
                self._hasher.update(data)
                if self._size is not None and self._hasher.size > self._size:
                    self._refuse(f"it has more than {self._size} bytes")
                if self._progress:
                    self._progress(self._hasher.size, end if end is not None else self._size)
                if self._transfer.stop.is_set():
                    raise Cancelled("the transfer was cancelled")
        if end is not None and self._hasher.size < end:
            raise _unavailable(self._call.url, f"broke off after {self._hasher.size} of {end} bytes")

    def _read(self, response: HTTPResponse) -> bytes:
        with _network(self._call.url):
            return response.read(CHUNK)

    def _judge(self, resumed: bool) -> Digest:
        digest = self._hasher.digest()
        difference = digest.differs(self._size, self._checksums)
        if difference is None:
            return digest
        self._validator = None
        if self._mended and not resumed:
            self._refuse(difference)
        self._mended = True
        error = Invalid.because(f"{safe_url(self._call.url)} is not the file that was expected: {difference}")
        raise _Fault(error, self._call.url, "it is not the file that was expected")

    def _refuse(self, difference: str) -> None:
        raise Invalid.because(
            f"{safe_url(self._call.url)} is not the file that was expected: {difference}; was it replaced since?"
        )


def _upload(transfer: Transfer, call: Call, path: Path, sha256: str | None) -> None:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        connection = transfer.open(call, {"Content-Length": str(size)}, trusted=True)
        try:
            broken = _send(transfer, connection, file, size, sha256)
            with _network(call.url):
                response = connection.getresponse()
                body = response.read(4096)
        finally:
            connection.close()
    if response.status in (409, 412):
        return
    if not 200 <= response.status < 300:
        raise _refusal(call, response, body)
    if broken:
        raise _unavailable(call.url, "took only a part of the file")


def _send(transfer: Transfer, connection: HTTPConnection, file: BinaryIO, size: int, sha256: str | None) -> bool:
    """Send the body; true if the server stopped taking it, which its answer should explain."""
    from http.client import HTTPException

    digest = hashlib.sha256()
    left = size
    while left:
        if transfer.stop.is_set():
            raise Cancelled("the transfer was cancelled")
        data = file.read(min(CHUNK, left))
        left -= len(data)
        digest.update(data)
        if not data or (left == 0 and sha256 is not None and digest.hexdigest() != sha256):
            raise Changed(f"{Path(file.name).name} changed while it was sent")
        try:
            connection.send(data)
        except (OSError, HTTPException):
            return True
    return False


@contextmanager
def _get(transfer: Transfer, call: Call, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
    """The answer with a body worth reading, after redirects."""
    trusted = transfer.trusts(call.url)
    for _ in range(REDIRECTS + 1):
        connection = transfer.open(call, headers, trusted=trusted)
        try:
            with _network(call.url):
                response = connection.getresponse()
            location = response.getheader("Location")
            if response.status not in _REDIRECT or not location or call.method != "GET":
                if response.status == 416:
                    raise _unavailable(call.url, "has no such range")
                if response.status not in (200, 206):
                    with _network(call.url):
                        body = response.read(4096)
                    raise _refusal(call, response, body)
                yield response
                return
        finally:
            connection.close()
        call = _next_hop(call, location)
        trusted = trusted and transfer.trusts(call.url)
    raise Invalid.because(
        f"{safe_url(call.url)} was reached by {REDIRECTS} redirects and redirects again: use its target"
    )


def _next_hop(call: Call, location: str) -> Call:
    try:
        url = urljoin(call.url, location)
    except ValueError:
        raise Invalid.because(f"{safe_url(call.url)} redirects to what is no URL") from None
    return replace(call, url=url, headers=call.headers if same_origin(url, call.url) else {})


def _headers(call: Call, endpoint: Endpoint, more: Mapping[str, str]) -> dict[str, str]:
    headers = {"Host": endpoint.host_header, "User-Agent": "lamplighter-worker", "Accept": "*/*"}
    headers |= {"Accept-Encoding": "identity", "Connection": "close"}
    given = {name.lower() for name in call.headers}
    if endpoint.authorization and "authorization" not in given:
        headers["Authorization"] = endpoint.authorization
    headers = {name: value for name, value in headers.items() if name == "Host" or name.lower() not in given}
    ours = {"host", *(name.lower() for name in more)}
    return {**headers, **{n: v for n, v in call.headers.items() if n.lower() not in ours}, **more}


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Tells faults of the network, which may pass, from everything else."""
    from http.client import HTTPException

    try:
        yield
    except (HTTPException, OSError) as error:
        if type(error).__name__ == "SSLCertVerificationError":
            raise Invalid.because(f"{safe_url(url)} has no valid certificate ({error}): is its CA installed?") from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason[:1].lower() + reason[1:]
        raise _Fault(Unavailable(f"{safe_url(url)} could not be reached: {reason}"), url, reason) from None
    except ValueError as error:
        raise Invalid.because(f"the call of {safe_url(url)} cannot be sent: {type(error).__name__}") from None


def _unavailable(url: str, reason: str) -> _Fault:
    return _Fault(Unavailable(f"{safe_url(url)} {reason}"), url, reason)


def _refusal(call: Call, response: HTTPResponse, body: bytes) -> LamplighterError | _Fault:
    status = response.status
    said = f"{call.method} {safe_url(call.url)} answered {status} {response.reason}"[:700]
    if status in _RETRIED:
        error = Throttled(said) if status == 429 else Unavailable(said)
        return _Fault(error, call.url, f"answered {status} {response.reason}".rstrip()[:200], _retry_after(response))
    if status in (401, 403, 410) or (status == 400 and _EXPIRED.search(body)):
        return Forbidden(f"{said}: the URL's access was refused or has expired")
    if status == 404:
        return NotFound(f"{said}: check that the file exists")
    return Invalid.because(f"{said}: the server does not accept this call")


def _retry_after(response: HTTPResponse) -> float:
    text = response.getheader("Retry-After") or ""
    return min(float(text), 60.0) if text.isascii() and text.isdigit() else 0.0


def _validator(response: HTTPResponse) -> str | None:
    """What proves on resuming that the file is still the same: a strong tag."""
    tag = response.getheader("ETag")
    return tag if tag and tag.startswith('"') else None


def _starts_at(response: HTTPResponse, offset: int) -> bool:
    return (response.getheader("Content-Range") or "").strip().startswith(f"bytes {offset}-")
