"""How long and how odd a text from outside may be, said once for all use cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lamplighter.errors import Invalid

NAME = 200
DESCRIPTION = 64 * 1024
TAGS = 50
TAG = 100
URL = 2048
PATH = 255
JSON_BYTES = 64 * 1024
JSON_DEPTH = 20


def text(field: str, value: object, *, most: int, least: int = 0) -> str:
    """The text if it is one, of `least` to `most` characters, that can be stored. Raises `Invalid` under `field`."""
    if not isinstance(value, str):
        raise Invalid({field: [f"Expected a text, got {type(value).__name__}."]})
    if len(value) < least:
        raise Invalid({field: [("This field may not be blank.", "blank")]})
    if len(value) > most:
        raise Invalid({field: [f"This has {len(value)} characters; at most {most} are accepted."]})
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise Invalid({field: ["This holds a character that cannot be stored: NUL or half of a surrogate pair."]})
    return value


def line(field: str, value: object, *, most: int, least: int = 0) -> str:
    """As `text`, and printable on one line."""
    checked = text(field, value, most=most, least=least)
    if not checked.isprintable():
        raise Invalid({field: ["This must be one line of printable characters."]})
    return checked


def tags(field: str, value: object) -> tuple[str, ...]:
    """A list of tags without repetitions, in the order given. Raises `Invalid` under `field`."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise Invalid({field: ["Expected a list of texts."]})
    if len(value) > TAGS:
        raise Invalid({field: [f"There are {len(value)} tags; at most {TAGS} are accepted."]})
    return tuple(dict.fromkeys(line(field, tag, most=TAG, least=1) for tag in value))


def relative_path(field: str, value: object) -> str:
    """A path that stays below where it starts. Raises `Invalid` under `field`."""
    path = line(field, value, most=PATH, least=1)
    if path.startswith("/") or "\\" in path or ".." in path.split("/"):
        raise Invalid({field: [f'"{path}" must be a relative path with forward slashes and without "..".']})
    return path


def json_object(field: str, value: object) -> dict[str, Any]:
    """A plain JSON object that is neither large nor deep. Raises `Invalid` under `field`."""
    if not isinstance(value, Mapping):
        raise Invalid({field: ["Expected an object."]})
    _check_depth(field, value)
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError) as error:
        raise Invalid({field: [f"This is not plain JSON: {error}."]}) from error
    if size > JSON_BYTES:
        raise Invalid({field: [f"This has {size} bytes; at most {JSON_BYTES} are accepted."]})
    return dict(value)


def _check_depth(field: str, value: object) -> None:
    level: list[object] = [value]
    for _ in range(JSON_DEPTH):
        level = [child for parent in level for child in _children(field, parent)]
        if not level:
            return
    raise Invalid({field: [f"This is nested more than {JSON_DEPTH} levels deep."]})


def _children(field: str, value: object) -> list[object]:
    if isinstance(value, Mapping):
        for name in value:
            text(field, name, most=NAME)
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []
