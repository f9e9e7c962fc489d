"""What every store refuses alike: keys, ranges, sizes and times that some store could not honour."""

from __future__ import annotations

import re
from typing import BinaryIO
from urllib.parse import quote

from lamplighter.errors import AlreadyWritten, Invalid, NotFound

MAX_KEY_BYTES = 1024
"""S3's limit of a key."""

MAX_SEGMENT_BYTES = 255
"""A file system's limit of one name between two slashes."""

MAX_SIGNED_SECONDS = 7 * 24 * 3600
"""S3's limit of the life of a presigned URL."""

PIECE = 1024 * 1024
"""Bodies are carried in pieces of at most this many bytes."""


def check_key(key: str) -> None:
    """Raises `Invalid` unless `key` is a plain relative path that every store can keep."""
    fault = _fault_of(key)
    if fault:
        raise Invalid({"key": [f"the object key {key[:200]!r} {fault}"]})


def check_prefix(prefix: str) -> None:
    """Raises `Invalid` unless some key could start with `prefix`."""
    # The last segment may be the beginning of a longer name: ".." may begin "..notes".
    if prefix and _fault_of(prefix) and (fault := _fault_of(prefix + "x")):
        raise Invalid({"prefix": [f"the prefix {prefix[:200]!r} {fault}"]})


def check_size(size: int) -> None:
    """Raises `Invalid` for a size that no object has."""
    if size < 0:
        raise Invalid({"size": [f"an object has 0 bytes or more, not {size}"]})


def check_range(start: int, end: int | None) -> None:
    """Raises `Invalid` for a range that reads backwards or begins before the object."""
    if start < 0 or (end is not None and end < start):
        raise Invalid({"range": [f"bytes {start} to {end} are no range: give 0 <= start <= end"]})


def check_seconds(seconds: int) -> None:
    """Raises `Invalid` for a life that a presigned URL cannot have."""
    if not 1 <= seconds <= MAX_SIGNED_SECONDS:
        raise Invalid({"seconds": [f"a signed URL lives 1 to {MAX_SIGNED_SECONDS} seconds, not {seconds}"]})


def wrong_size(key: str, size: int, found: str) -> Invalid:
    """The refusal of a body that is not as long as was said."""
    return Invalid(
        {"size": [f"writing {key}: {size} bytes were announced, {found} came; nothing was kept, send it again"]}
    )


def not_found(key: str) -> NotFound:
    """The refusal of a key that holds nothing."""
    return NotFound(f"there is no object {key}: it was never written, or it was deleted")


def already_written(key: str) -> AlreadyWritten:
    """The refusal of a second write."""
    return AlreadyWritten(
        f"the object {key} is there already and objects are written once: compare it, or use another key"
    )


def read_piece(body: BinaryIO, wanted: int) -> bytes:
    """Up to `wanted` bytes; fewer only at the end of `body`, however small the portions that it gives."""
    parts: list[bytes] = []
    while wanted > 0:
        part = body.read(wanted)
        if not part:
            break
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)


def content_disposition(filename: str) -> str:
    """The header that asks a browser to save an answer under `filename`, whatever that text contains."""
    plain = re.sub(r'[^ -~]|["\\%/]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"


def _fault_of(key: str) -> str | None:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "is not valid text: give it as UTF-8"
    if not encoded or len(encoded) > MAX_KEY_BYTES:
        return f"must have 1 to {MAX_KEY_BYTES} bytes, it has {len(encoded)}"
    if "\x00" in key:
        return "contains a NUL character: leave it out"
    segments = key.split("/")
    if "" in segments:
        return "starts or ends with a slash or has two in a row: name every part"
    if "." in segments or ".." in segments:
        return 'has a part "." or "..": keys do not climb'
    if any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        return f"has a part of more than {MAX_SEGMENT_BYTES} bytes: shorten it"
    return None
