"""A client whose requests reach a handler as an HTTP API would hand them on: events in payload format 2.0."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.functions.asgi_client import Reply, Verbs

Handler = Callable[..., dict[str, Any]]

TEXTS = ("application/json", "application/x-www-form-urlencoded", "text/")


def event(
    method: str,
    target: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    stage: str = "$default",
    cookies: Iterable[str] = (),
    host: str = "abc123.execute-api.eu-north-1.amazonaws.com",
) -> dict[str, Any]:
    """As documented for payload format 2.0; an HTTP API decodes the path, a function URL does not, and both send what is no
    text as base64.
    """
    written, _, query = target.partition("?")
    path = written if ".lambda-url." in host else unquote(written)
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    binary = bool(body) and not (lower.get("content-type", "application/json").startswith(TEXTS) and _is_text(body))
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": ("" if stage == "$default" else f"/{stage}") + path,
        "rawQueryString": query,
        **({"cookies": list(cookies)} if cookies else {}),
        "headers": {"host": host, "x-forwarded-proto": "https", **lower},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc123",
            "domainName": host,
            "domainPrefix": "abc123",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "agent",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": stage,
            "time": "10/Mar/2020:05:16:23 +0000",
            "timeEpoch": 1583817383220,
        },
        **({"body": base64.b64encode(body).decode() if binary else body.decode()} if body else {}),
        "isBase64Encoded": binary,
    }


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def reply_of(answer: Mapping[str, Any]) -> Reply:
    """What the gateway makes of the handler's answer. It must be JSON, of at most 6 MB."""
    wire = json.dumps(answer)
    assert len(wire) <= 6 * 1024 * 1024, f"Lambda would refuse an answer of {len(wire)} bytes"
    raw = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
    return Reply(answer["statusCode"], {name.lower(): value for name, value in answer["headers"].items()}, raw)


@dataclass
class GatewayClient(Verbs):
    """Calls `handler` with events. `token` is sent as a person's token."""

    handler: Handler
    token: str | None = None

    def call(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        body: bytes | None = None,
        chunks: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; the gateway puts a body in pieces together."""
        sent = {"authorization": f"Token {self.token}"} if self.token else {}
        if content is not None:
            body = json.dumps(content).encode()
            sent["content-type"] = "application/json"
        if chunks is not None:
            body = b"".join(chunks)
        sent.update(headers or {})
        return reply_of(self.handler(event(method, path, body or b"", sent), None))
