"""Signed calls of the stores that this project serves itself: who holds one may do exactly what it says, until it ends."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlencode

from adapters.stores import rules
from lamplighter.errors import Forbidden

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_NAMES = {"method", "expires", "size", "filename", "signature"}


@dataclass(frozen=True, slots=True)
class SignedCall:
    """A call whose signature holds. `size` is the exact length of a PUT's body, None for a GET."""

    method: str
    key: str
    size: int | None = None
    filename: str | None = None

    @property
    def content_disposition(self) -> str | None:
        """The header that the answer to a GET must carry, if any."""
        return None if self.filename is None else rules.content_disposition(self.filename)


def sign(signing_key: bytes, call: SignedCall, *, seconds: int, now: datetime) -> str:
    """The path and query of `call`, to be put behind the base URL: `/objects/<key>?...`. Valid for `seconds` from `now`."""
    expires = math.ceil(now.timestamp()) + seconds
    query = {"method": call.method, "expires": str(expires)}
    if call.size is not None:
        query["size"] = str(call.size)
    if call.filename is not None:
        query["filename"] = call.filename
    query["signature"] = _signature(signing_key, call, expires)
    return f"/objects/{quote(call.key)}?{urlencode(query)}"


def verify(signing_key: bytes, method: str, path_key: str, query: Mapping[str, str], now: datetime) -> SignedCall:
    """The call that was signed. `path_key` is what follows `/objects/`, unquoted; `query` the unquoted parameters.

    Raises `Forbidden` when any part was changed, left out or added, or when its time is over.
    """
    expires, size = query.get("expires", ""), query.get("size")
    plain_numbers = _NUMBER.fullmatch(expires) and (size is None or _NUMBER.fullmatch(size))
    if not plain_numbers or set(query) - _NAMES or query.get("method") != method:
        raise _refused(method, path_key)
    call = SignedCall(method, path_key, None if size is None else int(size), query.get("filename"))
    given = query.get("signature", "").encode(errors="replace")
    if not hmac.compare_digest(given, _signature(signing_key, call, int(expires)).encode()):
        raise _refused(method, path_key)
    if now.timestamp() > int(expires):
        raise Forbidden(f"the signed URL for {method} {path_key} has expired: ask for a new one")
    return call


def _signature(signing_key: bytes, call: SignedCall, expires: int) -> str:
    # A JSON list keeps the parts apart: no text in one of them can pass for another.
    parts = json.dumps([call.method, call.key, expires, call.size, call.filename])
    return hmac.new(signing_key, parts.encode(), hashlib.sha256).hexdigest()


def _refused(method: str, path_key: str) -> Forbidden:
    return Forbidden(f"this URL was not signed for {method} {path_key[:200]!r}: use it exactly as it was given")
