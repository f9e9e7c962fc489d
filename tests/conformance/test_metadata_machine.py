"""Random histories: every adapter must answer as the strict double does, step by step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from adapters.metadata.memory import MemoryMetadata
from adapters.metadata.sqlite import SqliteMetadata
from lamplighter.errors import Conflict
from lamplighter.ports import ABSENT, ANY, Check, Delete, Key, Metadata, Put, Record, Write
from tests.conformance.metadata_places import ADAPTERS, Table

PARTITIONS = st.sampled_from(["p", "q"])
SORTS = st.sampled_from(["a", "a/", "a/1", "a\x00", "b", "é", "\ud7ff", "\ue000", "😀", "\U0010ffff"])
KEYS = st.builds(Key, PARTITIONS, SORTS)
VALUES = st.dictionaries(
    st.text(max_size=3),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists),
    max_size=3,
)
CHANGES = st.lists(
    st.tuples(
        KEYS, st.sampled_from(["put", "put", "delete", "check"]), st.sampled_from(["true", "true", "any", "false"])
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda change: change[0],
)
BOUNDS = st.none() | SORTS


class Place(Protocol):
    """Where the adapter under test keeps its records."""

    def open(self) -> Metadata:
        """The adapter, as a process that has just started sees it."""

    def empty(self) -> None:
        """Remove every record."""


class SqlitePlace:
    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.opened: list[SqliteMetadata] = []

    def open(self) -> Metadata:
        self._close()
        self.opened.append(SqliteMetadata(Path(self.folder.name) / "metadata.db"))
        return self.opened[-1]

    def empty(self) -> None:
        self._close()
        self.folder.cleanup()

    def _close(self) -> None:
        while self.opened:
            self.opened.pop().close()


class TwoStores(RuleBasedStateMachine):
    """Each rule asks both and compares the answers, failures included."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.double = MemoryMetadata()
        self.place = place
        self.real = place.open()
        self.versions: dict[Key, int] = {}

    def teardown(self) -> None:
        self.place.empty()

    @rule(changes=CHANGES, value=VALUES)
    def transact(self, changes: list[tuple[Key, str, str]], value: dict[str, Any]) -> None:
        writes = [self.write(key, kind, expectation, value) for key, kind, expectation in changes]

        answer = self.both(lambda metadata: metadata.transact(writes))

        holds = all(expectation != "false" for _, _, expectation in changes)
        assert answer == (None if holds else Conflict)
        if holds:
            self.remember(writes)

    @rule(keys=st.lists(KEYS, max_size=5))
    def get_many(self, keys: list[Key]) -> None:
        self.both(lambda metadata: metadata.get_many(keys))

    @rule(
        partition=PARTITIONS,
        prefix=st.just("") | SORTS,
        after=BOUNDS,
        before=BOUNDS,
        newest_first=st.booleans(),
        limit=st.integers(1, 6),
    )
    def query(
        self, partition: str, prefix: str, after: str | None, before: str | None, newest_first: bool, limit: int
    ) -> None:
        def whole(metadata: Metadata) -> list[tuple[Record, ...]]:
            pages = []
            cursor = None
            while True:
                page = metadata.query(
                    partition,
                    prefix=prefix,
                    after=after,
                    before=before,
                    newest_first=newest_first,
                    limit=limit,
                    cursor=cursor,
                )
                pages.append(page.records)
                cursor = page.cursor
                if cursor is None:
                    return pages

        self.both(whole)

    @precondition(lambda self: self.versions)
    @rule()
    def reopen(self) -> None:
        self.real = self.place.open()

    @invariant()
    def the_versions_are_those_that_the_history_gives(self) -> None:
        for metadata in (self.double, self.real):
            found = metadata.get_many(list(self.versions))
            assert {key: record.version for key, record in found.items()} == self.versions

    def write(self, key: Key, kind: str, expectation: str, value: dict[str, Any]) -> Write:
        version = self.versions.get(key, ABSENT)
        expects = {"true": version, "any": ANY, "false": version + 1}[expectation]
        if kind == "put":
            return Put(key, value, expects)
        return Delete(key, expects) if kind == "delete" else Check(key, expects)

    def remember(self, writes: list[Write]) -> None:
        for write in writes:
            if isinstance(write, Put):
                self.versions[write.key] = self.versions.get(write.key, ABSENT) + 1
            elif isinstance(write, Delete):
                self.versions.pop(write.key, None)

    def both(self, ask: Callable[[Metadata], object]) -> object:
        answers: list[object] = []
        for metadata in (self.double, self.real):
            try:
                answers.append(ask(metadata))
            except Conflict:
                answers.append(Conflict)
        assert answers[0] == answers[1]
        return answers[0]


def compare(open_place: Callable[[], Place], examples: int) -> None:
    how = settings(derandomize=True, deadline=None, max_examples=examples, stateful_step_count=25, database=None)
    run_state_machine_as_test(lambda: TwoStores(open_place()), settings=how)


def test_sqlite_answers_as_the_double_does() -> None:
    compare(SqlitePlace, examples=25)


@pytest.mark.parametrize("server", ["DynamoDB Local", "moto"])
@pytest.mark.parametrize("adapter", list(ADAPTERS))
def test_dynamodb_answers_as_the_double_does(dynamodb_tables: Callable[..., Table], adapter: str, server: str) -> None:
    table = dynamodb_tables(adapter, server)

    compare(lambda: table, examples=10)
