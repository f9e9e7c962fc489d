"""Errors as HTTP: which status, and a body in the shapes that clients know how to show."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from functions.messages import Answer
from lamplighter import errors

RETRY_AFTER_SECONDS = 2

_STATUS: Mapping[type[errors.LamplighterError], int] = {
    errors.NotAuthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.Conflict: 409,
    errors.StaleEpoch: 409,
    errors.SequenceGap: 409,
    errors.AlreadyWritten: 409,
    errors.LaunchRefused: 409,
    errors.TooLarge: 413,
    errors.Throttled: 429,
    errors.Unavailable: 503,
    errors.NotYet: 503,
    errors.NoCapacity: 503,
    errors.QuotaReached: 503,
}

_log = logging.getLogger(__name__)


class MethodNotAllowed(errors.LamplighterError):
    """The path exists, with other methods."""

    code = "method_not_allowed"

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not possible here; possible: {self.allowed}")


class UnsupportedMedia(errors.LamplighterError):
    """The body is of a kind that this route does not read."""

    code = "unsupported_media_type"


def answer_for(error: Exception, *, worker: bool = False) -> Answer:
    """The answer that explains `error`. What nobody expected is logged with its stack and told without details."""
    if isinstance(error, errors.Invalid):
        body = fields_of(error)
        return Answer.of(400, {"code": error.code, "message": json.dumps(body)} if worker else body)
    if isinstance(error, MethodNotAllowed):
        return Answer.of(405, _body(error), {"Allow": error.allowed})
    if isinstance(error, UnsupportedMedia):
        return Answer.of(415, _body(error))
    if isinstance(error, errors.LamplighterError) and (status := _STATUS.get(errors.kind_of(error))):
        return _explained(error, status, worker=worker)
    request_id = str(uuid.uuid4())
    _log.error("request %s failed", request_id, exc_info=error)
    text = f"Something went wrong on the server. Its log has the details under request {request_id}."
    return Answer.of(500, {"message": text, "code": "internal", "request_id": request_id})


def fields_of(error: errors.Invalid) -> dict[str, Any]:
    """The faults by field; "parameters.lr" becomes an object in an object."""
    body: dict[str, Any] = {}
    for name, messages in error.fields.items():
        shown = [m if isinstance(m, str) else {"message": m[0], "code": m[1]} for m in messages]
        outer, _, inner = name.partition(".")
        if inner:
            _nested(body, outer).setdefault(inner, []).extend(shown)
        elif isinstance(body.get(outer), dict):
            body[outer].setdefault("non_field_errors", []).extend(shown)
        else:
            body.setdefault(outer, []).extend(shown)
    return body


def invalid_fields(faults: Sequence[Mapping[str, Any]]) -> errors.Invalid:
    """What a validation has found wrong, as our own error."""
    fields: dict[str, list[str | tuple[str, str]]] = {}
    for fault in faults:
        place = [str(part) for part in fault["loc"][1:]]
        name = ".".join(place[:2]) or "non_field_errors"
        text = "This field is required." if fault["type"] == "missing" else f"{fault['msg']}."
        if text not in fields.setdefault(name, []):
            fields[name].append(text)
    return errors.Invalid(fields)


def _nested(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if isinstance(found, dict):
        return found
    body[name] = {"non_field_errors": found} if found else {}
    nested: dict[str, Any] = body[name]
    return nested


def _explained(error: errors.LamplighterError, status: int, *, worker: bool) -> Answer:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Token"
    body = _body(error)
    if status in (401, 403, 404) and not worker:
        body = {"detail": body.pop("message"), **body}
    if isinstance(error, errors.SequenceGap):
        body["expected"] = error.expected
    return Answer.of(status, body, headers)


def _body(error: errors.LamplighterError) -> dict[str, Any]:
    return {"message": str(error), "code": error.code}
