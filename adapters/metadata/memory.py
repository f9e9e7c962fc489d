"""Metadata in memory, the strict double: it keeps every promise and every limit of the port, and nothing after the process."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from adapters.metadata import rules
from lamplighter.errors import Conflict
from lamplighter.ports import ABSENT, ANY, Delete, Key, Page, Put, Record, Write


@dataclass(slots=True)
class _Partition:
    sorts: list[str] = field(default_factory=list)
    stored: dict[str, tuple[int, str]] = field(default_factory=dict)


class MemoryMetadata:
    """The `Metadata` port for tests and trials; safe with many threads.

    Values are kept as JSON text, so that nobody can change a stored value from outside. A page of a query holds at most
    `page_records`, however large its limit: a caller that ignores the cursor is found out.
    """

    def __init__(self, *, page_records: int = 250) -> None:
        self._page_records = page_records
        self._partitions: dict[str, _Partition] = {}
        self._lock = threading.Lock()

    def get(self, key: Key) -> Record | None:
        rules.check_key(key)
        with self._lock:
            return self._read(key)

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        for key in keys:
            rules.check_key(key)
        with self._lock:
            found = (self._read(key) for key in keys)
            return {record.key: record for record in found if record is not None}

    def query(
        self,
        partition: str,
        *,
        prefix: str = "",
        after: str | None = None,
        before: str | None = None,
        newest_first: bool = False,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page:
        rules.check_query(partition, limit)
        resume = None if cursor is None else rules.sort_of(cursor)
        with self._lock:
            # Python compares texts by code point, which is the order of their UTF-8 bytes.
            sorts = [
                sort
                for sort in self._sorts_from(partition, prefix)
                if (after is None or sort > after)
                and (before is None or sort < before)
                and (resume is None or (sort < resume if newest_first else sort > resume))
            ]
            if newest_first:
                sorts.reverse()
            return self._page(partition, sorts, min(limit, self._page_records))

    def transact(self, writes: Sequence[Write]) -> None:
        texts = rules.encode_transaction(writes)
        with self._lock:
            versions = [self._version(write.key) for write in writes]
            for write, version in zip(writes, versions, strict=True):
                if write.expects not in (ANY, version):
                    raise Conflict(rules.conflict_message(write.key, write.expects, version))
            for write, version, text in zip(writes, versions, texts, strict=True):
                if isinstance(write, Put) and text is not None:
                    self._put(write.key, version + 1, text)
                elif isinstance(write, Delete) and version != ABSENT:
                    self._delete(write.key)

    def _sorts_from(self, partition: str, prefix: str) -> list[str]:
        sorts = self._partitions.get(partition, _Partition()).sorts
        return [sort for sort in sorts[bisect_left(sorts, prefix) :] if sort.startswith(prefix)]

    def _page(self, partition: str, sorts: list[str], limit: int) -> Page:
        records: list[Record] = []
        size = 0
        for sort in sorts:
            if len(records) == limit or size > rules.PAGE_BYTES:
                return Page(tuple(records), rules.cursor_after(records[-1].key.sort))
            version, text = self._partitions[partition].stored[sort]
            records.append(Record(Key(partition, sort), version, rules.decode(text)))
            size += len(text)
        return Page(tuple(records), None)

    def _version(self, key: Key) -> int:
        return self._partitions.get(key.partition, _Partition()).stored.get(key.sort, (ABSENT, ""))[0]

    def _read(self, key: Key) -> Record | None:
        stored = self._partitions.get(key.partition, _Partition()).stored.get(key.sort)
        return None if stored is None else Record(key, stored[0], rules.decode(stored[1]))

    def _put(self, key: Key, version: int, text: str) -> None:
        partition = self._partitions.setdefault(key.partition, _Partition())
        if key.sort not in partition.stored:
            insort(partition.sorts, key.sort)
        partition.stored[key.sort] = (version, text)

    def _delete(self, key: Key) -> None:
        partition = self._partitions[key.partition]
        del partition.stored[key.sort]
        partition.sorts.remove(key.sort)
