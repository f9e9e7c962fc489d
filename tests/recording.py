"""Metadata in memory that remembers what was asked of it, for tests of what a call costs."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.metadata.memory import MemoryMetadata
from lamplighter.ports import Key, Record, Write


class Counted(MemoryMetadata):
    """Metadata that writes down what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[Key]] = []
        self.written: list[list[Write]] = []

    def get(self, key: Key) -> Record | None:
        self.asked.append([key])
        return super().get(key)

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        self.asked.append(list(keys))
        return super().get_many(keys)

    def transact(self, writes: Sequence[Write]) -> None:
        self.written.append(list(writes))
        super().transact(writes)

    def forget(self) -> None:
        self.asked.clear()
        self.written.clear()
