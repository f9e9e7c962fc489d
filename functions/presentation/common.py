"""What all answers share: times as text, pages of a list, and the parameters that ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import BaseModel

from functions.callers import Call
from lamplighter.contract.wire import format_time

MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1000

T = TypeVar("T")
V = TypeVar("V")

Limit = Annotated[
    int, Query(ge=0, description="How many rows at most; 0 means the default. More than 10000 count as 10000.")
]
Offset = Annotated[int, Query(ge=0, description="How many rows to leave out first.")]


class Shape(BaseModel):
    """The base of all answers."""


class Page(Shape, Generic[T]):
    """One page of a list. `next` and `previous` are absolute URLs."""

    count: int
    next: str | None
    previous: str | None
    results: list[T]


class Urls(Shape):
    """Where people look at a thing."""

    display: str


class Person(Shape):
    """Somebody, in short."""

    id: str
    username: str


def rows(limit: int) -> int:
    """How many rows a request for `limit` gets."""
    return min(limit, MAX_LIMIT) if limit else DEFAULT_LIMIT


def page(call: Call, results: list[T], count: int, *, limit: int, offset: int) -> Page[T]:
    """The page that starts at `offset` of `count` rows; `results` are its rows already."""
    size = rows(limit)
    following = _at(call, offset + size, size) if offset + size < count else None
    before = _at(call, max(0, offset - size), size) if offset else None
    return Page(count=count, next=following, previous=before, results=results)


def page_of(call: Call, everything: Sequence[V], show: Callable[[V], T], *, limit: int, offset: int) -> Page[T]:
    """The page of a list that is at hand as a whole; only its own rows are shown."""
    shown = [show(value) for value in everything[offset : offset + rows(limit)]]
    return page(call, shown, len(everything), limit=limit, offset=offset)


def time(moment: datetime) -> str:
    """ISO, UTC, with six digits of microseconds: clients cut it by position."""
    return format_time(moment)


def maybe_time(moment: datetime | None) -> str | None:
    """As `time`, for moments that may not have come."""
    return format_time(moment) if moment else None


def _at(call: Call, offset: int, limit: int) -> str:
    kept = [(name, value) for name, values in call.query.items() if name not in ("limit", "offset") for value in values]
    return call.url(f"{call.path}?{urlencode([*kept, ('limit', limit), ('offset', offset)])}")
