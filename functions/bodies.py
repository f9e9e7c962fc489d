"""Bodies in both directions, free of any server's own types: what is read, what is refused, what is compressed."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import parse_qs

from functions.failures import UnsupportedMedia
from functions.messages import MAX_QUERY_FIELDS, Answer, Head
from lamplighter.errors import Invalid, TooLarge

GZIP_FROM_BYTES = 1024

ARCHIVE = "A project's archive"
ARCHIVE_WAY_OUT = "Leave data out of it (.vhignore), or link the project to a git repository."


def content_of(head: Head, body: bytes) -> Any:
    """The body as plain JSON, whether it is JSON or a form; None for an empty one. Raises `Invalid`, `UnsupportedMedia`."""
    kind = head.headers.get("content-type", "").split(";")[0].strip().lower()
    if not body:
        return None
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid.because(f"The body is not UTF-8: byte {error.start} does not fit.", "parse_error") from error
    if kind == "application/x-www-form-urlencoded":
        return _form(text)
    if kind not in ("application/json", "text/json", ""):
        raise UnsupportedMedia(f'A body of "{kind[:100]}" is not read here: send application/json.')
    try:
        content = json.loads(text, parse_constant=_no_json)
        if "\\ud" in text.lower() and not head.is_worker:
            # Only a log line may hold half of a surrogate pair; nothing else could be stored.
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Invalid.because(f"The body is not valid JSON: {why}.", "parse_error") from error
    return content


def too_large(most: int, what: str, way_out: str = "Send less at once, or put the data into a store.") -> TooLarge:
    """The refusal, with the limit and the way out in it."""
    size = f"{most // 2**20} MiB" if most >= 2**20 else f"{most} bytes"
    return TooLarge(f"{what} may have at most {size} here. {way_out}")


def compressed(answer: Answer, head: Head) -> Answer:
    """The answer as gzip, if it is worth it and the client takes it. Blocks for large ones."""
    accepted = head.headers.get("accept-encoding", "")
    if len(answer.body) < GZIP_FROM_BYTES or "gzip" not in accepted or "Content-Encoding" in answer.headers:
        return answer
    headers = {**answer.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Answer(answer.status, gzip.compress(answer.body, 4, mtime=0), answer.content_type, headers)


def _form(text: str) -> dict[str, str]:
    try:
        fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise Invalid.because(f"The form cannot be read: {error}.", "parse_error") from error
    return {name: values[-1] for name, values in fields.items()}


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
