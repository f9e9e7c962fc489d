"""The whole HTTP server as one ASGI application: streamed bodies and pages here, everything else in the API's routes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from aws_lambda_powertools.event_handler.api_gateway import Route

from functions.api import make_api
from functions.bodies import ARCHIVE, compressed
from functions.failures import MethodNotAllowed, answer_for
from functions.messages import Answer, Head
from functions.objects import PREFIX, ObjectsDoor
from functions.pages import PAGE_HEADERS, page_for
from functions.parcels import OVERHEAD_BYTES, Parcel
from functions.resolver import Admitted, Api
from functions.routes.base import IMPORT_PACKAGE
from functions.routes.packages import need_project
from functions.transport import (
    Disconnected,
    Receive,
    Scope,
    Send,
    expects_body,
    head_of,
    pieces,
    refuse,
    refuse_announced,
    respond,
    whole_body,
)
from lamplighter.errors import NotFound
from lamplighter.world import World

THREADS = 32
MAX_JSON_BYTES = 8 * 1024 * 1024
FEED_BYTES = 512 * 1024
REFUSED_UPLOAD_BYTES = 256 * 1024 * 1024
"""How much of a refused archive is taken: `vh` reads no answer before it has sent everything."""

T = TypeVar("T")


class Application:
    """The server over one world. `upload_folder` takes archives while they arrive; `objects` is the disk store to serve.

    Every request runs in a worker thread of its own, so that a slow one holds up nobody until all THREADS are busy.
    """

    def __init__(
        self,
        world: World,
        *,
        upload_folder: Path,
        objects: Any = None,
        behind_proxy: bool = False,
        threads: int = THREADS,
    ) -> None:
        self._world = world
        self._api: Api = make_api(world, behind_proxy=behind_proxy)
        self._routes = self._api.routes  # loaded before the first request, not by it
        self._folder = upload_folder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._objects = ObjectsDoor(objects, world.now, self._run) if objects else None

    @property
    def routes(self) -> list[Route]:
        """Every route of the API, in the order in which they are tried."""
        return self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event of the ASGI protocol."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    def close(self) -> None:
        """Take no more requests. Those under way go on in their threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            head = head_of(scope)
            if scope["path"].startswith(PREFIX) and self._objects:
                await self._objects(head, scope["path"], scope["method"], receive, send)
            elif head.path.startswith("/api/"):
                await self._serve_api(head, receive, send)
            else:
                await _serve_page(head, send)
        except Disconnected:
            return
        except Exception as error:
            await refuse(send, receive, answer_for(error))

    async def _serve_api(self, head: Head, receive: Receive, send: Send) -> None:
        if not expects_body(head):
            await respond(send, await self._call(self._answer_at_once, head))
            return
        admitted = await self._call(self._api.admit, head)
        if isinstance(admitted, Answer):
            await refuse(send, receive, admitted)
        elif admitted.route.operation_id == IMPORT_PACKAGE:
            await self._import_package(admitted, receive, send)
        else:
            body = await whole_body(head, receive, MAX_JSON_BYTES)
            await respond(send, await self._call(self._answer, admitted, body))

    def _answer_at_once(self, head: Head) -> Answer:
        admitted = self._api.admit(head)
        return admitted if isinstance(admitted, Answer) else self._answer(admitted, b"")

    def _answer(self, admitted: Admitted, body: bytes | Parcel) -> Answer:
        return compressed(self._api.perform(admitted, body), admitted.head)

    async def _import_package(self, admitted: Admitted, receive: Receive, send: Send) -> None:
        most = self._world.installation.max_upload_bytes
        try:
            await self._call(need_project, admitted.call, admitted.arguments["project_id"])
            refuse_announced(admitted.head, most + OVERHEAD_BYTES, ARCHIVE)
            with Parcel(admitted.head.headers.get("content-type", ""), self._folder, most) as parcel:
                await self._receive(parcel, receive, most)
                answer = await self._call(self._answer, admitted, parcel)
        except Disconnected:
            raise
        except Exception as error:
            await refuse(send, receive, answer_for(error), drain=REFUSED_UPLOAD_BYTES)
            return
        await respond(send, answer)

    async def _receive(self, parcel: Parcel, receive: Receive, most: int) -> None:
        gathered = bytearray()
        async for piece in pieces(receive, most + OVERHEAD_BYTES, ARCHIVE):
            gathered += piece
            if len(gathered) >= FEED_BYTES:
                await self._call(parcel.feed, bytes(gathered))
                gathered.clear()
        await self._call(parcel.feed, bytes(gathered))
        await self._call(parcel.close)

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(function, *arguments))

    def _run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> asyncio.Future[T]:
        call = functools.partial(function, *arguments, **named)
        return asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self.close()
                return


async def _serve_page(head: Head, send: Send) -> None:
    page = page_for(head.path)
    if not page:
        await respond(send, answer_for(NotFound(f"There is nothing at {head.path}.")))
    elif head.method != "GET":
        await respond(send, answer_for(MethodNotAllowed(head.method, ("GET", "HEAD"))))
    else:
        await respond(send, page, headers=PAGE_HEADERS)
