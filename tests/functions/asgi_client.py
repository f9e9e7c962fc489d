"""A client that speaks ASGI to an application in this process."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from functions.asgi import Application


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        return gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Verbs:
    """The two calls that stories make most, by `call`."""

    call: Callable[..., Reply]

    def get(self, path: str, **more: Any) -> Reply:
        return self.call("GET", path, **more)

    def post(self, path: str, content: Any = None, **more: Any) -> Reply:
        return self.call("POST", path, content, **more)


@dataclass
class Client(Verbs):
    """Calls `application` as a browser of `host` would. `token` is sent as a person's token."""

    application: Application
    token: str | None = None
    host: str = "ml.example:8000"
    read: list[int] = field(default_factory=list)
    """How many body messages the application took in each call."""

    def call(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        body: bytes | None = None,
        chunks: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        leave_after: int | None = None,
    ) -> Reply:
        """One request. `chunks` are sent without a length; after `leave_after` of them the client is gone."""
        sent = {"host": self.host, **({"authorization": f"Token {self.token}"} if self.token else {})}
        if content is not None:
            body = json.dumps(content).encode()
            sent["content-type"] = "application/json"
        if chunks is None:
            chunks = [body or b""]
            sent["content-length"] = str(len(body or b""))
        else:
            sent["transfer-encoding"] = "chunked"
        sent.update(headers or {})
        return asyncio.run(self._exchange(method, path, sent, list(chunks), leave_after))

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], chunks: list[bytes], leave_after: int | None
    ) -> Reply:
        target, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": unquote(target),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
            "scheme": "http",
        }
        sent: list[MutableMapping[str, Any]] = []
        taken = 0

        async def receive() -> MutableMapping[str, Any]:
            nonlocal taken
            if taken == leave_after or taken >= len(chunks):
                if taken >= len(chunks) and leave_after is None:
                    await asyncio.sleep(0.01)
                return {"type": "http.disconnect"}
            taken += 1
            return {"type": "http.request", "body": chunks[taken - 1], "more_body": taken < len(chunks)}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        self.read.append(taken)
        if not sent:
            return Reply(0, {}, b"")
        start = sent[0]
        return Reply(
            start["status"],
            {k.decode(): v.decode("latin-1") for k, v in start["headers"]},
            b"".join(m.get("body", b"") for m in sent[1:]),
        )
