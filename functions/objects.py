"""The HTTP door of stores on this server's own disk: whoever holds a signed URL may do exactly what it says."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import parse_qsl

from adapters.stores.local_disk import LocalDiskStore, Upload
from adapters.stores.signing import SignedCall
from functions.failures import MethodNotAllowed, answer_for
from functions.messages import API_HEADERS, Answer, Head
from functions.transport import (
    Disconnected,
    Receive,
    Send,
    announced_size,
    pieces,
    refuse,
    respond,
)
from lamplighter.errors import Forbidden, Invalid, TooLarge
from lamplighter.ports import Clock

PREFIX = "/objects/"
WRITE_BYTES = 512 * 1024
"""A hop to a worker thread costs more than a small write: pieces are gathered up to this size."""

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_HEADERS = {
    **API_HEADERS,
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-store",
}

T = TypeVar("T")
Run = Callable[..., "asyncio.Future[T]"]


class ObjectsDoor:
    """GET, HEAD and PUT below `/objects/`. `run` calls a blocking function in a worker thread."""

    def __init__(self, store: LocalDiskStore, clock: Clock, run: Callable[..., asyncio.Future[object]]) -> None:
        self._store = store
        self._clock = clock
        self._run = run

    async def __call__(self, head: Head, path: str, method: str, receive: Receive, send: Send) -> None:
        """Answer one request. `path` is decoded, and as it came: a key is never made canonical."""
        try:
            call = self._verified(head, path, method)
            if call.method == "PUT":
                await self._take(call, head, receive, send)
            else:
                await self._give(call, head, method, receive, send)
        except Disconnected:
            return
        except Exception as error:
            await refuse(send, receive, answer_for(error), drain=call_size(error))

    def _verified(self, head: Head, path: str, method: str) -> SignedCall:
        if method not in ("GET", "HEAD", "PUT"):
            raise MethodNotAllowed(method, ("GET", "HEAD", "PUT"))
        pairs = parse_qsl(head.query_string, keep_blank_values=True, max_num_fields=20)
        query = dict(pairs)
        if len(query) != len(pairs):
            raise Forbidden("a signed URL names each field once")
        signed_method = "GET" if method == "HEAD" else method
        return self._store.verify(signed_method, path.removeprefix(PREFIX), query, self._clock())

    async def _take(self, call: SignedCall, head: Head, receive: Receive, send: Send) -> None:
        size = call.size or 0
        announced = announced_size(head)
        if announced is not None and announced != size:
            raise Invalid({"size": [f"This URL is for exactly {size} bytes; {announced} were announced."]})
        upload = await self._call(self._store.writer, call.key, size)
        try:
            await self._fill(upload, size, receive)
        finally:
            await self._call(upload.abort)
        await respond(send, Answer(201, content_type="text/plain"), headers=_HEADERS)

    async def _fill(self, upload: Upload, size: int, receive: Receive) -> None:
        gathered = bytearray()
        async for piece in pieces(receive, size, "This object"):
            gathered += piece
            if len(gathered) >= WRITE_BYTES:
                await self._call(upload.write, bytes(gathered))
                gathered.clear()
        await self._call(upload.write, bytes(gathered))
        await self._call(upload.commit)

    async def _give(self, call: SignedCall, head: Head, method: str, receive: Receive, send: Send) -> None:
        info = await self._call(self._store.head, call.key)
        start, end = _range(head.headers.get("range", ""), info.size)
        if start >= end and info.size:
            answer = Answer.of(416, {"message": f"The object has {info.size} bytes.", "code": "range"})
            await respond(send, answer, headers={**_HEADERS, "Content-Range": f"bytes */{info.size}"})
            return
        partial = (start, end) != (0, info.size)
        headers = {
            **_HEADERS,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Accept-Ranges": "bytes",
        }
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
        if call.content_disposition:
            headers["Content-Disposition"] = call.content_disposition
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 206 if partial else 200, "headers": encoded})
        if method == "GET":
            await self._stream(call.key, start, end, receive, send)
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, key: str, start: int, end: int, receive: Receive, send: Send) -> None:
        source = await self._call(self._store.get, key, start=start, end=end)
        gone = asyncio.ensure_future(_until_disconnect(receive))
        try:
            while not gone.done():
                piece = await self._call(_next, source)
                if not piece:
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone
            await self._call(_close, source)

    async def _call(self, function: Callable[..., T], *arguments: object, **named: object) -> T:
        result: T = await self._run(function, *arguments, **named)  # type: ignore[assignment]
        return result


def call_size(error: Exception) -> int:
    """How much of a refused body to take: a client that sends too much is let finish only within bounds."""
    return 0 if isinstance(error, Forbidden) else 64 * 1024 * 1024 if isinstance(error, TooLarge) else 1024 * 1024


def _range(header: str, size: int) -> tuple[int, int]:
    """The bytes asked for, from start up to, not including, end. What cannot be read asks for all of them."""
    match = _RANGE.fullmatch(header.strip())
    if not match or match[1] == match[2] == "":
        return 0, size
    if not match[1]:
        return max(0, size - int(match[2])), size
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return 0, size
    return start, end


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _next(source: Iterator[bytes]) -> bytes:
    return next(source, b"")


def _close(source: Iterator[bytes]) -> None:
    close = getattr(source, "close", None)
    if close:
        close()
