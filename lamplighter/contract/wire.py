"""Frozen dataclasses to plain JSON and back, by their type hints.

Reading is tolerant of fields it does not know, so that yesterday's agent and tomorrow's server understand each other, and
strict about the ones it does: a wrong type is refused with the path of the field.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union

from lamplighter.errors import Invalid

T = TypeVar("T")
Reader = Callable[[Any], Any]
"""Makes a value of one kind from plain JSON; raises `_Misfit`."""

_WANTED: Mapping[Any, str] = {
    Decimal: "an amount such as 0.05",
    datetime: "a time such as 2026-01-05T10:00:00Z",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}
_PLAIN = frozenset({str, int, float, bool})


def encode(value: Any) -> Any:
    """The JSON form: dataclasses become objects, times ISO text with six-digit microseconds and Z, money text."""
    if value is None or type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _names(type(value))}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    return value


def decode(cls: type[T], value: Any) -> T:
    """The dataclass that `value` describes. Raises `Invalid` naming the first field that does not fit."""
    try:
        return typing.cast(T, _reader(cls)(value))
    except _Misfit as misfit:
        raise Invalid({misfit.path or "non_field_errors": [misfit.text]}) from None


def format_time(moment: datetime) -> str:
    """Fixed width, so that times sort as text: `2026-01-05T10:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """The moment that `format_time` wrote. Raises `ValueError` for other text."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class _Misfit(Exception):
    """A value that does not fit. Its path grows on the way up, so that what fits pays nothing for it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.path = ""

    def below(self, part: str) -> _Misfit:
        joint = "" if not self.path or self.path.startswith("[") else "."
        self.path = f"{part}{joint}{self.path}"
        return self


def _unexpected(expected: str) -> _Misfit:
    return _Misfit(f"This must be {expected}.")


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


def _reader(kind: Any) -> Reader:
    """Reads values of this kind. Looking at the kind is slow, and a log batch has thousands of values."""
    origin = typing.get_origin(kind)
    if kind is Any:
        return lambda value: value
    if origin in (Union, types.UnionType):
        return _union_reader(typing.get_args(kind))
    if origin is typing.Literal:
        return _literal_reader(typing.get_args(kind))
    if origin in (tuple, list):
        return _sequence_reader(origin, typing.get_args(kind))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(_reader(typing.get_args(kind)[1]))
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(typing.cast(type, kind))
    if kind is datetime or kind is Decimal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return _text_reader(kind)
    return _scalar_reader(kind)


def _union_reader(choices: tuple[Any, ...]) -> Reader:
    optional = type(None) in choices
    *firsts, last = [_reader(c) for c in choices if c is not type(None)]

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        for choice in firsts:
            try:
                return choice(value)
            except _Misfit:
                continue
        return last(value)

    return read


def _literal_reader(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in choices:
            raise _unexpected(f"one of {', '.join(map(str, choices))}")
        return value

    return read


def _sequence_reader(origin: Any, kinds: tuple[Any, ...]) -> Reader:
    if origin is tuple and not (len(kinds) == 2 and kinds[1] is Ellipsis):
        return _row_reader([_reader(kind) for kind in kinds])
    each = _reader(kinds[0])

    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _unexpected("a list")
        found: list[Any] = []
        try:
            for item in value:
                found.append(each(item))  # its length tells which item does not fit
        except _Misfit as misfit:
            raise misfit.below(f"[{len(found)}]") from None
        return found if origin is list else tuple(found)

    return read


def _row_reader(readers: list[Reader]) -> Reader:
    count = len(readers)

    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _unexpected("a list")
        if len(value) != count:
            raise _unexpected(f"a list of {count}")
        index = 0
        found = []
        try:
            for index, reader in enumerate(readers):
                found.append(reader(value[index]))
        except _Misfit as misfit:
            raise misfit.below(f"[{index}]") from None
        return tuple(found)

    return read


def _mapping_reader(each: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _unexpected("an object")
        found = {}
        key = None
        try:
            for key, item in value.items():
                found[str(key)] = each(item)
        except _Misfit as misfit:
            raise misfit.below(str(key)) from None
        return found

    return read


@cache
def _dataclass_reader(cls: type) -> Reader:
    parts: list[tuple[str, Reader, bool]] = []

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _unexpected("an object")
        arguments = {}
        name = ""
        try:
            # Not before the first use: a dataclass may hold others of its own kind.
            for name, reader, required in parts or _parts(cls, parts):
                if name in value:
                    arguments[name] = reader(value[name])
                elif required:
                    _miss()
        except _Misfit as misfit:
            raise misfit.below(name) from None
        return cls(**arguments)

    return read


def _miss() -> typing.NoReturn:
    raise _Misfit("This field is required.")


def _parts(cls: type, parts: list[tuple[str, Reader, bool]]) -> list[tuple[str, Reader, bool]]:
    hints = typing.get_type_hints(cls)
    missing = dataclasses.MISSING
    parts[:] = [
        (f.name, _reader(hints[f.name]), f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(cls)
    ]
    return parts


def _text_reader(kind: Any) -> Reader:
    parse: Reader = parse_time if kind is datetime else kind
    wanted = _WANTED.get(kind) or f"one of {', '.join(str(choice.value) for choice in kind)}"

    def read(value: Any) -> Any:
        try:
            return parse(value)
        except (ValueError, TypeError, ArithmeticError):
            raise _unexpected(wanted) from None

    return read


def _scalar_reader(kind: Any) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is kind:
            return value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(kind, type) and isinstance(value, kind) and not isinstance(value, bool):
            return value
        raise _unexpected(_WANTED.get(kind, str(kind)))

    return read
