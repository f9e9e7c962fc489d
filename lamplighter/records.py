"""Domain values in the metadata: load with a version, decide, write on condition of that version."""

from __future__ import annotations

import functools
import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from lamplighter.contract.wire import decode, encode
from lamplighter.errors import Conflict, Invalid, NotFound
from lamplighter.ports import ABSENT, Check, Delete, Key, Metadata, Put, Record
from lamplighter.waiting import jittered

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

TRIES = 16
"""Each try reads anew. With so many, and the waits between them, writers that meet all get through and a real fault surfaces."""

FIRST_WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 2.0
"""Of the waits between tries each may be twice as long as the one before. Without them, one in ten of those who submit to one
project from eight processes at once used up a dozen tries on DynamoDB Local; with them, nobody did (2026-11-23).
"""

_TURNS = tuple(threading.Lock() for _ in range(64))


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A value as it was read, and the writes that are only right while nobody else has changed it."""

    key: Key
    version: int
    value: T

    def becomes(self, value: T) -> Put:
        """Replace the value."""
        return Put(self.key, encode(value), self.version)

    def removed(self) -> Delete:
        """Remove the record."""
        return Delete(self.key, self.version)

    def unchanged(self) -> Check:
        """Write nothing here, but rely on it."""
        return Check(self.key, self.version)


def new(key: Key, value: Any) -> Put:
    """Write a value where there must be none yet."""
    return Put(key, encode(value), ABSENT)


def stored(kind: type[T], record: Record) -> Stored[T]:
    """The value of a record that was read with others. Raises `Invalid` when it is no `kind`."""
    return Stored(record.key, record.version, decode(kind, record.value))


def find(metadata: Metadata, kind: type[T], key: Key) -> Stored[T] | None:
    """The value at `key`, or None."""
    record = metadata.get(key)
    return stored(kind, record) if record else None


def need(metadata: Metadata, kind: type[T], key: Key, what: str) -> Stored[T]:
    """The value at `key`. Raises `NotFound` saying that `what` does not exist."""
    found = find(metadata, kind, key)
    if not found:
        raise NotFound(f"{what} does not exist")
    return found


def find_many(metadata: Metadata, kind: type[T], keys: Sequence[Key]) -> list[Stored[T]]:
    """The values that exist, in the order of `keys`. A record that cannot be read is named in the log and left out:
    one such must not hide all others.
    """
    records = metadata.get_many(keys)
    found = []
    for key in keys:
        if key in records:
            try:
                found.append(stored(kind, records[key]))
            except Invalid as error:
                _log.error("the record %s/%s is no %s: %s", key.partition, key.sort, kind.__name__, error.told())
    return found


def walk(
    metadata: Metadata, partition: str, *, prefix: str = "", after: str | None = None, newest_first: bool = False
) -> Iterator[Record]:
    """Every record of a partition, or those whose sort key comes `after` that one, page by page."""
    cursor = None
    while True:
        page = metadata.query(partition, prefix=prefix, after=after, newest_first=newest_first, cursor=cursor)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            return


def walk_together(metadata: Metadata, partitions: Sequence[str]) -> Iterator[Record]:
    """Every record of several partitions in the order of their sort keys, as if they were one."""
    return heapq.merge(*(walk(metadata, partition) for partition in partitions), key=lambda record: record.key.sort)


def taking_turns(name: str) -> threading.Lock:
    """The lock of `name` among this process's threads: those who change one record all the time spare each other conflicts.

    For speed, never for correctness: other processes do not see it. Hold one at a time.
    """
    return _TURNS[hash(name) % len(_TURNS)]


def again_on_conflict(use_case: Callable[P, R]) -> Callable[P, R]:
    """Run the use case anew, reads included, when another writer was quicker. Raises the last `Conflict` after TRIES."""

    @functools.wraps(use_case)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        for past in range(TRIES - 1):
            try:
                return use_case(*args, **kwargs)
            except Conflict:
                time.sleep(jittered(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**past)))
        return use_case(*args, **kwargs)

    return tried
