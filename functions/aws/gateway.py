"""Events of an HTTP API or a function URL, payload format 2.0, to our own heads and bodies; our own answers back.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from functions.messages import API_HEADERS, Answer, Head, canonical
from lamplighter.errors import Invalid

Event = Mapping[str, Any]

MAX_HEADER_BYTES = 32 * 1024

MAX_ANSWER_BYTES = 5_500_000
"""As it goes over the wire; Lambda carries 6 MB (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""

_TEXT_UP_TO = 1024 * 1024


def head_of(event: Event) -> Head:
    """The request's head. Raises `Invalid` for more headers than anybody needs.

    The path is decoded once, as an ASGI server does it: an HTTP API has done so, a function URL hands it on as it was sent. Both
    have joined the values of a repeated header with commas. Who the client believes to talk to is left out: each URL that we
    answer begins with the installation's own address.
    """
    headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    size = sum(len(name) + len(value) for name, value in headers.items())
    if size > MAX_HEADER_BYTES:
        raise Invalid({"headers": [f"The headers have {size} bytes; at most {MAX_HEADER_BYTES} are read."]})
    headers.pop("host", None)
    if event.get("cookies"):
        headers["cookie"] = "; ".join(event["cookies"])
    return Head(
        method="GET" if method_of(event) == "HEAD" else method_of(event),
        path=canonical(_path(event)),
        query_string=str(event.get("rawQueryString") or ""),
        headers=headers,
        scheme="https",
    )


def method_of(event: Event) -> str:
    """The method as the client sent it."""
    return str(event["requestContext"]["http"]["method"])


def body_of(event: Event) -> bytes:
    """The whole body. Raises `Invalid` for base64 that is none."""
    text = str(event.get("body") or "")
    if not event.get("isBase64Encoded"):
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Invalid.because(f"The body is not base64: {error}.", "parse_error") from error


def response(event: Event, answer: Answer, headers: Mapping[str, str] = API_HEADERS) -> dict[str, Any]:
    """The answer as the gateway takes it. Only JSON travels as text: anything else could grow sixfold on the way."""
    merged = {"Content-Type": answer.content_type, **headers, **answer.headers}
    if answer.status == 204:
        del merged["Content-Type"]
    body = b"" if method_of(event) == "HEAD" else answer.body
    shown: dict[str, Any] = {"statusCode": answer.status, "headers": merged}
    if _travels_as_text(answer):
        return {**shown, "body": body.decode("ascii"), "isBase64Encoded": False}
    return {**shown, "body": base64.b64encode(body).decode("ascii"), "isBase64Encoded": True}


def fits(answer: Answer) -> bool:
    """Whether the platform carries this answer."""
    return _travels_as_text(answer) or (len(answer.body) + 2) // 3 * 4 <= MAX_ANSWER_BYTES


def _travels_as_text(answer: Answer) -> bool:
    plain = answer.content_type == "application/json" and "Content-Encoding" not in answer.headers
    return not answer.body or (plain and len(answer.body) <= _TEXT_UP_TO and answer.body.isascii())


def _path(event: Event) -> str:
    context = event["requestContext"]
    path, stage = str(event.get("rawPath") or "/"), str(context.get("stage") or "$default")
    if ".lambda-url." in str(context.get("domainName")):
        return unquote(path)
    return path.removeprefix(f"/{stage}") if path == f"/{stage}" or path.startswith(f"/{stage}/") else path
