"""A request's head and a whole answer, free of any server's own types."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from lamplighter.errors import Invalid

MAX_QUERY_FIELDS = 2000

API_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""What goes with every answer of the API."""

_PLACEHOLDER = re.compile(r"<(\w+)>")
_SEGMENT = r"[-._~()'!*:@,;=+&$%<> \[\]{}|^\w]+"
"""What a placeholder takes: one segment, of what API Gateway decodes in a path too."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a request before its body. Header names are lower-case; `path` is decoded and canonical."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    scheme: str = "http"

    @property
    def is_worker(self) -> bool:
        """Whether it asks for the worker API, whose refusals have one shape."""
        return self.path.startswith("/api/worker/")

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


def pattern_of(route: str) -> re.Pattern[str]:
    """What matches the canonical paths of a route as it is declared: `/api/v0/projects/<project_id>/`."""
    rule = _PLACEHOLDER.sub(lambda found: f"(?P<{found[1]}>{_SEGMENT})", route.rstrip("/"))
    return re.compile(f"^{rule}/*$")
