"""Records of the table's stream as keys and values of ours.

https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html shows the event; the table is `pk`, `sk`, `version`, `value`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lamplighter.ports import Json, Key

StreamRecord = Mapping[str, Any]


def key_of(record: StreamRecord) -> Key:
    """Where the changed record lives."""
    keys = record["dynamodb"]["Keys"]
    return Key(keys["pk"]["S"], keys["sk"]["S"])


def value_of(record: StreamRecord) -> Json | None:
    """What was written, or None when the record was removed."""
    image = record["dynamodb"].get("NewImage")
    if not image:
        return None
    value: Json = json.loads(image["value"]["S"])
    return value


def sequence_number(record: StreamRecord) -> str:
    """By which Lambda is told where to begin again."""
    return str(record["dynamodb"]["SequenceNumber"])
