"""Plumbing between ASGI and our own messages: heads in, bodies within limits, answers out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from functions.bodies import too_large
from functions.messages import API_HEADERS, Answer, Head, canonical
from lamplighter.errors import Invalid

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_HEADER_BYTES = 32 * 1024
DRAIN_BYTES = 4 * 1024 * 1024
DRAIN_SECONDS = 10.0


class Disconnected(Exception):
    """The client went away before its body was complete: there is nobody to answer."""


def head_of(scope: Scope) -> Head:
    """The request's head. Raises `Invalid` for more headers than anybody needs."""
    headers: dict[str, str] = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    if size > MAX_HEADER_BYTES:
        raise Invalid({"headers": [f"The headers have {size} bytes; at most {MAX_HEADER_BYTES} are read."]})
    method = "GET" if scope["method"] == "HEAD" else str(scope["method"])
    return Head(
        method=method,
        path=canonical(scope["path"]),
        query_string=scope.get("query_string", b"").decode("latin-1"),
        headers=headers,
        scheme=scope.get("scheme", "http"),
    )


def announced_size(head: Head) -> int | None:
    """What Content-Length says, or None for a body in chunks."""
    text = head.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def expects_body(head: Head) -> bool:
    """Whether there is a body to read at all."""
    return bool(announced_size(head)) or "transfer-encoding" in head.headers


async def pieces(receive: Receive, most: int, what: str) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `TooLarge` beyond `most` bytes, `Disconnected`."""
    received = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        piece = message.get("body", b"")
        received += len(piece)
        if received > most:
            raise too_large(most, what)
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


async def whole_body(head: Head, receive: Receive, most: int) -> bytes:
    """A small body. Raises `TooLarge` before reading one that is announced too large, `Disconnected`."""
    refuse_announced(head, most, "A JSON body")
    return b"".join([piece async for piece in pieces(receive, most, "A JSON body")])


def refuse_announced(head: Head, most: int, what: str) -> None:
    """Raises `TooLarge` for a body whose length is announced to be more than `most` bytes."""
    announced = announced_size(head)
    if announced is not None and announced > most:
        raise too_large(most, what)


async def respond(send: Send, answer: Answer, *, headers: Mapping[str, str] = API_HEADERS) -> None:
    """Send the whole answer."""
    await _start(send, answer, headers)
    await send({"type": "http.response.body", "body": answer.body})


async def refuse(send: Send, receive: Receive, answer: Answer, *, drain: int = DRAIN_BYTES) -> None:
    """Send the answer while the client is still sending.

    A connection that is closed on a sender makes it lose our answer, so up to `drain` bytes are taken and thrown away first.
    """
    await _start(send, answer, {**API_HEADERS, "Connection": "close"})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    deadline = time.monotonic() + DRAIN_SECONDS
    while drain > 0 and time.monotonic() < deadline:
        try:
            message = await asyncio.wait_for(receive(), deadline - time.monotonic())
        except TimeoutError:
            break
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            break
        drain -= len(message.get("body", b""))
    await send({"type": "http.response.body", "body": b""})


async def _start(send: Send, answer: Answer, more: Mapping[str, str]) -> None:
    merged = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **more, **answer.headers}
    if answer.status == 204:
        del merged["Content-Type"], merged["Content-Length"]
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in merged.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
