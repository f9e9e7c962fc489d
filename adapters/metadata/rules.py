"""What every metadata adapter refuses alike, and how a value becomes the text that is stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lamplighter.errors import Invalid
from lamplighter.ports import ABSENT, ANY, MAX_RECORD_BYTES, MAX_TRANSACTION_WRITES, Json, Key, Put, Write

MAX_PARTITION_BYTES = 2048
"""DynamoDB's limit of a partition key."""

MAX_SORT_BYTES = 1024
"""DynamoDB's limit of a sort key."""

MAX_TRANSACTION_BYTES = 4_000_000
"""DynamoDB's limit of the items of one transaction together is 4 MB."""

PAGE_BYTES = 1_000_000
"""A page of a query ends once it holds about this much, as DynamoDB's does at 1 MB."""


def check_key(key: Key) -> None:
    """Raises `ValueError` for a key that some adapter could not keep."""
    check_partition(key.partition)
    if not 1 <= len(key.sort.encode()) <= MAX_SORT_BYTES:
        raise ValueError(f"the sort key of {key} must have 1 to {MAX_SORT_BYTES} bytes as UTF-8")


def check_partition(partition: str) -> None:
    """Raises `ValueError` for a partition that some adapter could not keep."""
    if not 1 <= len(partition.encode()) <= MAX_PARTITION_BYTES:
        raise ValueError(f"the partition {partition[:80]!r} must have 1 to {MAX_PARTITION_BYTES} bytes as UTF-8")


def encode_transaction(writes: Sequence[Write]) -> list[str | None]:
    """The stored text of each `Put` and None for other writes. Raises `ValueError` for what `transact` must refuse."""
    if not 1 <= len(writes) <= MAX_TRANSACTION_WRITES:
        raise ValueError(f"a transaction has 1 to {MAX_TRANSACTION_WRITES} writes, not {len(writes)}: split it")
    if len({write.key for write in writes}) < len(writes):
        raise ValueError(f"a transaction writes each key once, these are {[write.key for write in writes]}")
    texts = [_encode_write(write) for write in writes]
    total = sum(len(text.encode()) for text in texts if text is not None)
    total += sum(len(write.key.partition.encode()) + len(write.key.sort.encode()) for write in writes)
    if total > MAX_TRANSACTION_BYTES:
        raise ValueError(f"a transaction carries up to {MAX_TRANSACTION_BYTES} bytes, not {total}: split it")
    return texts


def decode(text: str) -> Json:
    """A fresh value out of its stored text: the caller may do with it what it likes."""
    value: dict[str, Any] = json.loads(text)
    return value


def conflict_message(key: Key, expects: int, version: int) -> str:
    """Says which expectation failed and what to do."""
    wanted = "no record" if expects == ABSENT else f"version {expects}"
    found = "no record" if version == ABSENT else f"version {version}"
    return f"writing {key.partition} / {key.sort}: expected {wanted}, found {found}; read again and decide again"


def cursor_after(sort: str) -> str:
    """The cursor of a page whose last sort key is `sort`."""
    return base64.urlsafe_b64encode(sort.encode()).decode()


def sort_of(cursor: str) -> str:
    """The sort key in a cursor. Raises `Invalid`: cursors travel through clients."""
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise Invalid({"cursor": ["this cursor is not one of ours: start again without it"]}) from None


def check_query(partition: str, limit: int) -> None:
    """Raises `ValueError` for a query that no adapter can answer."""
    check_partition(partition)
    if limit < 1:
        raise ValueError(f"a page holds at least one record, not {limit}")


def first_beyond(prefix: str) -> str | None:
    """The least text above every text that starts with `prefix`, or None when there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    # The surrogates are no characters and cannot be stored.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def _encode_write(write: Write) -> str | None:
    check_key(write.key)
    if write.expects < ANY:
        raise ValueError(f"{write.expects} is no expectation for {write.key}: give a version, ABSENT or ANY")
    if not isinstance(write, Put):
        return None
    text = _encode(write.key, write.value)
    size = len(text.encode()) + len(write.key.partition.encode()) + len(write.key.sort.encode())
    if size > MAX_RECORD_BYTES:
        raise ValueError(
            f"the record at {write.key} has {size} bytes, the limit is {MAX_RECORD_BYTES}: store an object"
        )
    return text


def _encode(key: Key, value: Json) -> str:
    if not isinstance(value, Mapping):
        raise ValueError(f"the value for {key} must be a JSON object, not {type(value).__name__}")  # noqa: TRY004
    try:
        _check_names(value)
        return json.dumps(dict(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"the value for {key} is not plain JSON: {error}") from error


def _check_names(value: object) -> None:
    """json.dumps would turn the name 1 into "1" and let it collide with a real "1"."""
    if isinstance(value, dict | Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"the name {name!r} is not a text")
            _check_names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_names(item)
