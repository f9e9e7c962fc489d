"""The wire to the control plane: JSON over one kept-alive HTTP connection per thread, patient with outages."""

from __future__ import annotations

import http.client
import json
import random
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lamplighter.contract.wire import decode, encode
from lamplighter.errors import (
    Forbidden,
    Invalid,
    LamplighterError,
    NotAuthenticated,
    NotFound,
    SequenceGap,
    StaleEpoch,
    Throttled,
    TooLarge,
    Unavailable,
)
from lamplighter_worker.clock import boottime

T = TypeVar("T")

PREFIX = "/api/worker/v0/"
FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes that an answer may have, also once it is unpacked."""

_REFUSALS: dict[str, type[LamplighterError]] = {
    "not_authenticated": NotAuthenticated,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "stale_epoch": StaleEpoch,
    "too_large": TooLarge,
    "answer_too_large": TooLarge,
}


class Link:
    """Calls to one control plane. Every call of the worker contract may be repeated, so each is, until it is answered."""

    def __init__(
        self, control_url: str, timeout: float = 30.0, *, heard: Callable[[float], None] = lambda _moment: None
    ) -> None:
        """`heard` is told the moment (`boottime`) of each word from the control plane, by any thread."""
        parts = urlsplit(control_url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid.because(
                f"{control_url!r} is no control plane address. Give one such as https://ml.example.org"
            )
        self.control_url = control_url.rstrip("/")
        self.session = ""
        self.last_contact = boottime()
        self._heard = heard
        self._parts = parts
        self._timeout = timeout
        self._connections = threading.local()

    def post(
        self,
        path: str,
        body: Any,
        answer: type[T],
        *,
        authorization: Callable[[], str] | None = None,
        until: Callable[[], bool] | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> T:
        """The answer to `body` (a contract dataclass, or bytes of JSON), asked again while the control plane is away.

        Gives up with the last `Unavailable` or `Throttled` once `until()` is true; without `until` there is one attempt.
        `wait` sleeps between attempts and may return early. `authorization` makes the header of that name anew for each attempt, if
        it is not the session, and may itself find somebody away. Refusals are raised as they are: `StaleEpoch`, `SequenceGap`,
        `NotAuthenticated`, `Forbidden`, `NotFound`, `Invalid`, `TooLarge`.
        """
        content = body if isinstance(body, bytes) else json.dumps(encode(body)).encode()
        sleep = wait or threading.Event().wait
        attempt = 0
        while True:
            try:
                shown = authorization() if authorization else f"Session {self.session}"
                return self._read(answer, self._once(path, content, shown))
            except (Unavailable, Throttled) as e:
                if until is None or until():
                    raise
                sleep(max(_retry_after(e), backoff(attempt)))
            attempt += 1

    def _read(self, answer: type[T], value: Any) -> T:
        try:
            return decode(answer, value)
        except Invalid as e:
            raise Unavailable(f"{self.control_url} answered what is no {answer.__name__}: {e}") from e

    def _once(self, path: str, content: bytes, authorization: str) -> Any:
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": authorization,
            "User-Agent": "lamplighter-worker",
        }
        target = self._parts.path + PREFIX + path
        status, retry_after, text = self._exchange(target, content, headers)
        try:
            value = json.loads(text) if text else {}
        except ValueError:
            value = None
        if 200 <= status < 300 and value is not None:
            self._was_heard()
            return value
        raise self._refusal(status, retry_after, value, path, len(content))

    def _exchange(self, target: str, content: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Status, Retry-After and text. A connection that was closed while it lay idle is replaced once."""
        for fresh in (False, True):
            connection = None if fresh else getattr(self._connections, "kept", None)
            used_before = connection is not None
            try:
                connection = connection or self._connect()
                connection.request("POST", target, body=content, headers=headers)
                response = connection.getresponse()
                text = response.read(MAX_ANSWER + 1)
            except (OSError, http.client.HTTPException) as e:
                self._drop(connection)
                if used_before:
                    continue
                raise Unavailable(f"No answer from {self.control_url}: {type(e).__name__} {e}. Asking again.") from e
            if response.will_close or not response.isclosed():
                self._drop(connection)
            else:
                self._connections.kept = connection
            if response.headers.get("Content-Encoding") == "gzip":
                text = self._unpacked(text)
            if len(text) > MAX_ANSWER:
                raise TooLarge(f"The answer of {self.control_url} has more than {MAX_ANSWER} bytes.")
            return response.status, response.headers.get("Retry-After", ""), text
        raise Unavailable(f"No answer from {self.control_url}. Asking again.")

    def _unpacked(self, packed: bytes) -> bytes:
        """As much of it as shows that it is too large."""
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)
        try:
            text = unpacking.decompress(packed, MAX_ANSWER + 1)
        except zlib.error as e:
            raise Unavailable(f"{self.control_url} answered what cannot be unpacked: {e}") from e
        if not unpacking.eof and len(text) <= MAX_ANSWER:
            raise Unavailable(f"{self.control_url} answered only a part of what it began.")
        return text

    def _was_heard(self) -> None:
        self.last_contact = boottime()
        self._heard(self.last_contact)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout)
        return http.client.HTTPConnection(host, port, timeout=self._timeout)

    def _drop(self, connection: http.client.HTTPConnection | None) -> None:
        self._connections.kept = None
        if connection is not None:
            connection.close()

    def _refusal(self, status: int, retry_after: str, value: Any, path: str, size: int) -> LamplighterError:
        """The refusal in our words. Only a body in our own form is believed: a proxy's 404 is an outage.

        A 413 is believed from anybody on the way: the same `size` bytes would be refused again for ever.
        """
        code = value.get("code") if isinstance(value, dict) else None
        message = str(value.get("message", "")) if isinstance(value, dict) else ""
        told = f"{path}: {status} {code or ''} {message}".strip()
        if code == "sequence_gap" and isinstance(value, dict) and isinstance(value.get("expected"), int):
            self._was_heard()
            return SequenceGap(value["expected"])
        if isinstance(code, str) and code in _REFUSALS and status < 500:
            self._was_heard()
            return _REFUSALS[code](told)
        if status == 401:
            return NotAuthenticated(told)
        if status == 429:
            return _Throttled(told, retry_after)
        if status == 413:
            return TooLarge(f"{path}: {size} bytes are more than is carried to {self.control_url} ({told})")
        if status in (400, 422) and code:
            self._was_heard()
            return Invalid.because(_readable(message) or told)
        return _Away(f"{self.control_url} answered {told}", retry_after)


def backoff(attempt: int) -> float:
    """Seconds to wait after the failed attempt number `attempt` (from 0): full jitter below a doubling bound."""
    return random.uniform(FIRST_DELAY / 2, min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt, 10)))  # noqa: S311 - not a secret


def _readable(message: str) -> str:
    """The texts of a refusal by fields, which travels as JSON within the message."""
    try:
        fields = json.loads(message)
    except ValueError:
        return message
    if not isinstance(fields, dict):
        return message
    return "; ".join(_texts(fields, ""))


def _texts(told: Any, place: str) -> Iterator[str]:
    """Every text with the dotted names that lead to it. A message with its code is one text."""
    if isinstance(told, dict) and "message" in told and told.keys() <= {"message", "code"}:
        told = told["message"]
    if isinstance(told, dict):
        for name, more in told.items():
            inner = place if name in ("non_field_errors", "message") else f"{place}.{name}".removeprefix(".")
            yield from _texts(more, inner)
    elif isinstance(told, list):
        for more in told:
            yield from _texts(more, place)
    else:
        yield f"{place}: {told}" if place else str(told)


class _Away(Unavailable):
    def __init__(self, message: str, retry_after: str) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Throttled(Throttled):
    def __init__(self, message: str, retry_after: str) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _retry_after(error: LamplighterError) -> float:
    text = str(getattr(error, "retry_after", ""))
    return min(float(text), 60.0) if text.isdecimal() else 0.0
