"""Frozen dataclasses to plain JSON and back, by their type hints.

Reading is tolerant of fields it does not know, so that yesterday's agent and tomorrow's server understand each other, and
strict about the ones it does: a wrong type is refused with the path of the field.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union

from lamplighter.errors import Invalid

T = TypeVar("T")


def encode(value: Any) -> Any:
    """The JSON form: dataclasses become objects, times ISO text with six-digit microseconds and Z, money text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
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
    return typing.cast(T, _decode(cls, value, ""))


def format_time(moment: datetime) -> str:
    """Fixed width, so that times sort as text: `2026-01-05T10:00:00.000000Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The moment that `format_time` wrote. Raises `ValueError` for other text."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(kind: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _decode_union(kind, value, path)
    if origin is typing.Literal:
        return value if value in typing.get_args(kind) else _refuse(path, f"one of {typing.get_args(kind)}", value)
    if origin in (tuple, list):
        return _decode_sequence(kind, value, path)
    if origin is not None and issubclass(origin, Mapping):
        return _decode_mapping(kind, value, path)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), value, path)
    return _decode_scalar(kind, value, path)


def _decode_union(kind: Any, value: Any, path: str) -> Any:
    choices = typing.get_args(kind)
    if value is None and type(None) in choices:
        return None
    rest = [c for c in choices if c is not type(None)]
    for choice in rest[:-1]:
        try:
            return _decode(choice, value, path)
        except Invalid:
            continue
    return _decode(rest[-1], value, path)


def _decode_sequence(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, list | tuple):
        return _refuse(path, "a list", value)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is list:
        return [_decode(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value)]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decode(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if len(arguments) != len(value):
        return _refuse(path, f"a list of {len(arguments)}", value)
    return tuple(_decode(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))


def _decode_mapping(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        return _refuse(path, "an object", value)
    of = typing.get_args(kind)[1]
    return {str(k): _decode(of, v, f"{path}.{k}") for k, v in value.items()}


def _decode_dataclass(cls: type, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        return _refuse(path, "an object", value)
    hints = _hints(cls)
    arguments = {}
    for f in dataclasses.fields(cls):
        where = f"{path}.{f.name}" if path else f.name
        if f.name in value:
            arguments[f.name] = _decode(hints[f.name], value[f.name], where)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise Invalid({where: ["This field is required."]})
    return cls(**arguments)


def _decode_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is datetime or kind is Decimal or (isinstance(kind, type) and issubclass(kind, Enum)):
        read: Any = parse_time if kind is datetime else kind
        try:
            return read(value)
        except (ValueError, TypeError, ArithmeticError):
            return _refuse(path, kind.__name__, value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    return _refuse(path, getattr(kind, "__name__", str(kind)), value)


def _refuse(path: str, expected: str, value: Any) -> typing.NoReturn:
    raise Invalid({path or "non_field_errors": [f"Expected {expected}, got {type(value).__name__}."]})
