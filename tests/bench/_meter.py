"""Counts what AWS would bill: DynamoDB units, S3 requests, calls of functions and what they take."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lamplighter.ports import Check, Key, Metadata, Page, Put, Record, Store, Write

ATTRIBUTE_BYTES = 24
"""The names of an item's attributes and its version, beside its key and its value."""


def item_bytes(key: Key, value: object) -> int:
    """The size of an item as DynamoDB counts it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len((text + key.partition + key.sort).encode()) + ATTRIBUTE_BYTES


@dataclass
class Meter:
    """What was counted, by name: `write_units`, `read_units`, `puts`, `gets`, `transitions`, `requests`; and per function."""

    counts: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    cpu: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    _running: str = ""

    @contextmanager
    def function(self, name: str) -> Iterator[None]:
        """What happens inside is one call of this function."""
        before, self._running = self._running, name
        begun = time.process_time()
        try:
            yield
        finally:
            self.calls[name] += 1
            self.cpu[name] += time.process_time() - begun
            self._running = before

    def service_call(self) -> None:
        """The running function waits for a service once."""
        self.waits[self._running] += 1


class MeteredMetadata:
    """`Metadata` with DynamoDB's units: strongly consistent reads, writes of a transaction count twice.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
    """

    def __init__(self, inner: Metadata, meter: Meter) -> None:
        self._inner = inner
        self.meter = meter

    def get(self, key: Key) -> Record | None:
        self.meter.service_call()
        record = self._inner.get(key)
        self._read([record] if record else [])
        return record

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        found = self._inner.get_many(keys)
        if keys:
            self.meter.service_call()
        for key in keys:
            self._read([found[key]] if key in found else [])
        return found

    def query(self, partition: str, **how: Any) -> Page:
        self.meter.service_call()
        page = self._inner.query(partition, **how)
        self._read(page.records)
        return page

    def transact(self, writes: Sequence[Write]) -> None:
        self.meter.service_call()
        before = self._inner.get_many([write.key for write in writes])
        self._inner.transact(writes)
        alone = len(writes) == 1 and not isinstance(writes[0], Check)
        for write in writes:
            sizes = [item_bytes(write.key, before[write.key].value)] if write.key in before else [1]
            if isinstance(write, Put):
                sizes.append(item_bytes(write.key, write.value))
            self.meter.counts["write_units"] += -(-max(sizes) // 1024) * (1 if alone else 2)

    def _read(self, records: Sequence[Record]) -> None:
        size = sum(item_bytes(r.key, r.value) for r in records)
        self.meter.counts["read_units"] += max(1, -(-size // 4096))


class MeteredStore:
    """`Store` that counts requests as S3 bills them; a signature costs nothing."""

    _BILLED: ClassVar = {"put": "puts", "list": "puts", "get": "gets", "head": "gets"}

    def __init__(self, inner: Store, meter: Meter) -> None:
        self._inner = inner
        self.meter = meter

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in self._BILLED:
            self.meter.counts[self._BILLED[name]] += 1
        if not name.startswith("presign"):
            self.meter.service_call()
        found: Callable[..., Any] = getattr(self._inner, name)
        return found
