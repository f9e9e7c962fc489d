"""A request's head and a whole answer, free of any server's own types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from lamplighter.errors import Invalid

MAX_QUERY_FIELDS = 2000


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a request before its body. Header names are lower-case; `path` is decoded and canonical."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    scheme: str = "http"

    @property
    def query(self) -> dict[str, list[str]]:
        """Every value of every query field. Raises `Invalid` for too many of them."""
        try:
            return parse_qs(self.query_string, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError as error:
            raise Invalid.because(f"At most {MAX_QUERY_FIELDS} query fields are read.") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, content: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """An answer of JSON."""
        return cls(status, to_json(content), headers=headers or {})


def to_json(content: Any) -> bytes:
    """Compact JSON. Everything beyond ASCII is escaped, so that a log line with half a surrogate pair cannot break it."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def canonical(path: str) -> str:
    """One spelling for `/a/b`, `/a/b/` and `/a//b/`: clients use all three."""
    segments = [segment for segment in path.split("/") if segment]
    return "/" + "/".join(segments) + ("/" if segments else "")
