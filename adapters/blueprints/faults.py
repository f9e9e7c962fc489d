"""Collects every fault of a request before it is refused, and the checks of single texts."""

from __future__ import annotations

import re

from lamplighter.errors import Invalid

MAX_FAULTS = 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Faults:
    """Messages by field; at most MAX_FAULTS per field are kept."""

    def __init__(self) -> None:
        self._fields: dict[str, list[str]] = {}

    def add(self, field: str, message: str) -> None:
        messages = self._fields.setdefault(field, [])
        if len(messages) < MAX_FAULTS:
            messages.append(message)

    def of(self, field: str, name: str) -> str:
        """The key for a fault of one named thing in `field`; a name unfit for a key stands in the message only."""
        return field if not name or len(name) > 128 or has_control(name) else f"{field}.{name}"

    def full(self, field: str) -> bool:
        return len(self._fields.get(field, ())) >= MAX_FAULTS

    def refuse(self) -> None:
        """Raises `Invalid` if there was any fault."""
        if self._fields:
            raise Invalid(self._fields)


def short(value: object) -> str:
    """`value` in quotes for a message: printable, at most 80 characters."""
    text = str(value)
    text = text if len(text) <= 80 else text[:79] + "…"
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'


def has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None


def text_fault(text: str, *, limit: int) -> str | None:
    """Why `text` cannot be handed to a process (too long in bytes, NUL, half a surrogate pair), or None."""
    if "\0" in text:
        return "holds a NUL character; remove it"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character; remove it"
    return f"is longer than {limit} bytes; shorten it, or pass it as an input file" if size > limit else None


def directory_fault(name: str, *, limit: int) -> str | None:
    """Why `name` cannot be the name of one directory or file, or None."""
    if not name or name in (".", ".."):
        return "is not a name"
    if "/" in name or "\\" in name or has_control(name):
        return "must not hold slashes, backslashes or control characters"
    if name != name.strip():
        return "must not begin or end with a blank"
    return text_fault(name, limit=limit)
