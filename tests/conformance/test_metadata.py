"""Every promise of the Metadata port but those of its queries, asked of every adapter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lamplighter.errors import Conflict, Throttled
from lamplighter.ports import (
    ABSENT,
    ANY,
    MAX_RECORD_BYTES,
    MAX_TRANSACTION_WRITES,
    Check,
    Delete,
    Key,
    Metadata,
    Put,
    Record,
    Write,
)
from tests.conformance.metadata_places import IN_PROCESS, WITH_ISOLATION, put, sorts

ONE = Key("p", "one")
TWO = Key("p", "two")


# --- One record -----------------------------------------------------------------------------------------------------


def test_a_key_that_was_never_written_has_no_record(metadata: Metadata) -> None:
    assert metadata.get(ONE) is None


def test_a_first_write_has_version_one_and_each_further_write_one_more(metadata: Metadata) -> None:
    metadata.transact([Put(ONE, {"n": 1}, ABSENT)])
    metadata.transact([Put(ONE, {"n": 2}, 1)])

    metadata.transact([Put(ONE, {"n": 3}, ANY)])

    assert metadata.get(ONE) == Record(ONE, 3, {"n": 3})


@pytest.mark.parametrize("expects", [ABSENT, 1, 3])
def test_a_put_with_a_wrong_expectation_is_a_conflict_and_changes_nothing(metadata: Metadata, expects: int) -> None:
    put(metadata, "one")
    put(metadata, "one", {"n": 2})

    with pytest.raises(Conflict, match="found version 2"):
        metadata.transact([Put(ONE, {"n": 9}, expects)])

    assert metadata.get(ONE) == Record(ONE, 2, {"n": 2})


def test_a_version_expected_of_a_key_that_is_not_there_is_a_conflict(metadata: Metadata) -> None:
    with pytest.raises(Conflict, match="found no record"):
        metadata.transact([Put(ONE, {}, 1)])

    assert metadata.get(ONE) is None


def test_a_key_that_was_deleted_starts_at_version_one_again(metadata: Metadata) -> None:
    put(metadata, "one")
    put(metadata, "one")
    metadata.transact([Delete(ONE, 2)])
    assert metadata.get(ONE) is None

    metadata.transact([Put(ONE, {"again": True}, ABSENT)])

    assert metadata.get(ONE) == Record(ONE, 1, {"again": True})


def test_a_delete_with_a_wrong_expectation_is_a_conflict(metadata: Metadata) -> None:
    put(metadata, "one")

    with pytest.raises(Conflict):
        metadata.transact([Delete(ONE, 2)])
    with pytest.raises(Conflict):
        metadata.transact([Delete(TWO, 1)])

    assert metadata.get(ONE) is not None


def test_deleting_what_is_absent_is_no_error_when_anything_is_expected(metadata: Metadata) -> None:
    metadata.transact([Delete(ONE, ANY), Delete(TWO, ABSENT)])

    assert metadata.get(ONE) is None


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"text": 'ä "quoted" \\ \n \x00 \u2028 \U0001f600', "": "empty name"},
        {"int": 2**70, "float": 0.1, "small": 5e-324, "yes": True, "no": False, "nothing": None},
        {"deep": [[], {}, [{"a": [1, 2.5, "x", None]}]]},
    ],
)
def test_a_value_comes_back_as_it_was(metadata: Metadata, value: dict[str, Any]) -> None:
    put(metadata, "one", value)

    record = metadata.get(ONE)

    assert record is not None
    assert record.value == value
    assert list(record.value) == list(value)


def test_changing_a_value_after_it_was_written_or_read_changes_nothing_stored(metadata: Metadata) -> None:
    value: dict[str, Any] = {"list": [1]}
    put(metadata, "one", value)

    value["list"].append(2)
    for read in (metadata.get(ONE), metadata.get_many([ONE])[ONE], metadata.query("p").records[0]):
        assert read is not None
        read.value["list"].append(3)

    assert metadata.get(ONE) == Record(ONE, 1, {"list": [1]})


def test_get_many_gives_those_that_exist_however_many_are_asked_for(metadata: Metadata) -> None:
    keys = [Key(f"p{n % 7}", f"{n}") for n in range(250)]
    for start in range(0, 250, 50):
        metadata.transact([Put(key, {"sort": key.sort}, ABSENT) for key in keys[start : start + 50 : 2]])

    found = metadata.get_many([*keys, *keys])

    assert found == {key: Record(key, 1, {"sort": key.sort}) for key in keys[::2]}
    assert metadata.get_many([]) == {}


# --- Transactions ---------------------------------------------------------------------------------------------------


def test_a_transaction_does_all_its_writes(metadata: Metadata) -> None:
    put(metadata, "one")
    put(metadata, "old")

    metadata.transact(
        [Put(TWO, {"n": 2}, ABSENT), Delete(Key("p", "old"), 1), Check(ONE, 1), Put(Key("q", "x"), {}, ANY)]
    )

    assert sorts(metadata) == ["one", "two"]
    assert sorts(metadata, "q") == ["x"]
    assert metadata.get(ONE) == Record(ONE, 1, {})


@pytest.mark.parametrize(
    "failing",
    [Put(ONE, {}, ABSENT), Delete(ONE, 7), Check(ONE, 2), Check(ONE, ABSENT), Check(Key("p", "none"), 1)],
)
@pytest.mark.parametrize("last", [True, False])
def test_one_failed_expectation_undoes_the_whole_transaction(metadata: Metadata, failing: Write, last: bool) -> None:
    put(metadata, "one")
    put(metadata, "old")
    others: list[Write] = [Put(TWO, {}, ABSENT), Delete(Key("p", "old"), 1)]

    with pytest.raises(Conflict):
        metadata.transact([*others, failing] if last else [failing, *others])

    assert sorts(metadata) == ["old", "one"]


def test_a_check_passes_when_its_expectation_holds_and_leaves_the_version_alone(metadata: Metadata) -> None:
    put(metadata, "one")

    metadata.transact([Check(ONE, 1), Check(TWO, ABSENT)])

    assert metadata.get(ONE) == Record(ONE, 1, {})
    assert metadata.get(TWO) is None


def test_a_transaction_may_have_the_largest_number_of_writes_and_not_one_more(metadata: Metadata) -> None:
    writes = [Put(Key("p", f"{n:03}"), {}, ABSENT) for n in range(MAX_TRANSACTION_WRITES + 1)]

    with pytest.raises(ValueError, match="split"):
        metadata.transact(writes)
    metadata.transact(writes[:-1])

    assert len(sorts(metadata)) == MAX_TRANSACTION_WRITES


@pytest.mark.parametrize(
    "writes",
    [
        [],
        [Put(ONE, {}, ANY), Check(ONE, ABSENT)],
        [Put(ONE, {}, -2)],
        [Put(Key("", "x"), {}, ANY)],
        [Put(Key("p", ""), {}, ANY)],
        [Put(Key("p", "x" * 1025), {}, ANY)],
        [Put(Key("p" * 2049, "x"), {}, ANY)],
        [Put(Key("p", "\ud800"), {}, ANY)],
        [Put(Key(f"{n}", "x"), {"v": "x" * 390_000}, ANY) for n in range(11)],
    ],
    ids=["none", "key twice", "expectation", "partition", "sort", "long sort", "long partition", "surrogate", "4 MB"],
)
def test_a_transaction_that_no_adapter_could_keep_is_refused(metadata: Metadata, writes: list[Write]) -> None:
    with pytest.raises(ValueError, match=r"."):
        metadata.transact([Put(TWO, {}, ANY), *writes] if writes else [])

    assert metadata.get(TWO) is None


@pytest.mark.parametrize(
    "value",
    [
        {"x": float("nan")},
        {"x": [float("inf")]},
        {"x": object()},
        {"x": {1, 2}},
        {"x": b"bytes"},
        {"x": {1: "one"}},
        {"x": "\udfff"},
        ["a list"],
        None,
    ],
    ids=["nan", "inf", "object", "set", "bytes", "number as name", "surrogate", "list", "none"],
)
def test_what_is_not_a_json_object_is_refused(metadata: Metadata, value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        metadata.transact([Put(ONE, value, ANY)])

    assert metadata.get(ONE) is None


def test_the_largest_record_is_kept_and_one_byte_more_is_refused(metadata: Metadata) -> None:
    # {"v":"..."} is 8 bytes around the text, and the key "p" + "one" counts 4; an "é" has two bytes.
    room = MAX_RECORD_BYTES - 8 - 4
    largest = "é" * (room // 2)

    metadata.transact([Put(ONE, {"v": largest}, ABSENT)])
    with pytest.raises(ValueError, match="400001 bytes"):
        metadata.transact([Put(ONE, {"v": largest + "x"}, 1)])

    assert metadata.get(ONE) == Record(ONE, 1, {"v": largest})


# --- Many at once ---------------------------------------------------------------------------------------------------


def together(count: int, work: Callable[[int], object]) -> None:
    barrier = threading.Barrier(count)

    def begin(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(begin, range(count)))


@pytest.mark.parametrize("metadata", WITH_ISOLATION, indirect=True)
def test_of_many_who_create_one_key_exactly_one_wins(metadata: Metadata) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        try:
            metadata.transact([Put(ONE, {"by": number}, ABSENT)])
        except Conflict:
            return
        won.append(number)

    together(8, create)

    assert len(won) == 1
    assert metadata.get(ONE) == Record(ONE, 1, {"by": won[0]})


def increment_two(metadata: Metadata, times: int) -> Iterator[tuple[Record, Record]]:
    """Raise both counts together, `times` times; gives what was read before every try."""
    done = 0
    while done < times:
        one, two = metadata.query("p").records
        yield one, two
        n = one.value["n"] + 1
        try:
            metadata.transact([Put(ONE, {"n": n}, one.version), Put(TWO, {"n": n}, two.version)])
        except (Conflict, Throttled):
            continue
        done += 1


@pytest.mark.parametrize("metadata", WITH_ISOLATION, indirect=True)
def test_no_increment_is_lost(metadata: Metadata) -> None:
    metadata.transact([Put(ONE, {"n": 0}, ABSENT), Put(TWO, {"n": 0}, ABSENT)])

    together(6, lambda _: list(increment_two(metadata, 10)))

    assert metadata.get(ONE) == Record(ONE, 61, {"n": 60})
    assert metadata.get(TWO) == Record(TWO, 61, {"n": 60})


@pytest.mark.parametrize("metadata", IN_PROCESS, indirect=True)
def test_a_query_in_this_process_never_sees_half_a_transaction(metadata: Metadata) -> None:
    """More than the port promises: DynamoDB reads several records one by one."""
    metadata.transact([Put(ONE, {"n": 0}, ABSENT), Put(TWO, {"n": 0}, ABSENT)])

    def increment(_: int) -> None:
        assert all(one.value == two.value for one, two in increment_two(metadata, 10))

    together(6, increment)
