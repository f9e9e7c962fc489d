"""Every audit record leaves the table for a bucket that nobody can change: one object of JSON lines for each batch."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from adapters.catalogue import adapter
from functions.aws.settings import read_settings
from functions.aws.streams import StreamRecord, key_of, value_of
from functions.later import Once
from functions.messages import to_json
from lamplighter.errors import AlreadyWritten
from lamplighter.ports import Store

PREFIX = "audit#"


def make_handler(store: Callable[[], Store]) -> Callable[[Mapping[str, Any], Any], None]:
    """What Lambda calls with records of the stream. Raises what the store raises: the batch comes again, and finds its object
    under the same key, made of what it holds.
    """

    def handle(event: Mapping[str, Any], context: object = None) -> None:  # noqa: ARG001 - Lambda gives it
        lines = [line for record in event["Records"] if (line := _line(record))]
        if not lines:
            return
        content = b"".join(to_json(line) + b"\n" for line in lines)
        day = str(lines[0]["time"])[:10].replace("-", "/")
        key = f"{day}/{lines[0]['id']}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
        with suppress(AlreadyWritten):
            store().put(key, io.BytesIO(content), size=len(content))

    return handle


def _line(record: StreamRecord) -> dict[str, Any] | None:
    partition, value = key_of(record).partition, value_of(record)
    if record.get("eventName") != "INSERT" or not partition.startswith(PREFIX) or value is None:
        return None
    organisation_id = partition.removeprefix(PREFIX).rpartition("#")[0]
    return {"organisation_id": organisation_id, **value}


def _audit_bucket() -> Store:
    settings = read_settings(os.environ)
    made: Store = adapter("stores", "s3")(settings.need("audit_bucket"), region=settings.region or None)
    return made


handler = make_handler(Once(_audit_bucket))
