"""What the DynamoDB adapters do when answers get lost, and when DynamoDB has no time for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from adapters.aws.patience import TRIES
from adapters.metadata.dynamodb_http import DynamoDbHttpMetadata
from lamplighter.errors import Conflict, Throttled, Unavailable
from lamplighter.ports import ABSENT, ANY, Check, Delete, Key, Metadata, Put, Record, Write
from lamplighter.records import again_on_conflict
from tests.conformance.dynamodb_between import (
    BROKEN,
    DENIED,
    SLOW_DOWN,
    Between,
    Fault,
    HungUp,
    Lost,
    Said,
    between,
    cancelled,
)
from tests.conformance.metadata_places import ADAPTERS, REGION, Table
from tests.e2e.ports import free_port

ONE, TWO = Key("p", "one"), Key("p", "two")
TOGETHER: list[Write] = [Put(ONE, {"n": 1}, ABSENT), Put(TWO, {"n": 2}, ANY)]


@pytest.fixture
def table(dynamodb_tables: Callable[[str, str], Table]) -> Table:
    return dynamodb_tables("signed calls", "DynamoDB Local")


@pytest.fixture
def middle(table: Table) -> Iterator[Between]:
    with between(table.url) as somebody:
        yield somebody


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the adapter would have waited."""
    return []


@pytest.fixture(params=list(ADAPTERS))
def metadata(request: pytest.FixtureRequest, table: Table, middle: Between, waits: list[float]) -> Metadata:
    made: Metadata = ADAPTERS[request.param](table.name, region=REGION, endpoint_url=middle.url, pause=waits.append)
    return made


# --- Lost answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Lost(), BROKEN], ids=["lost answer", "fault on their side"])
def test_a_transaction_whose_answer_is_lost_is_done_once_and_known_to_be_done(
    metadata: Metadata, middle: Between, table: Table, fault: Fault
) -> None:
    middle.faults.append(fault)

    metadata.transact(TOGETHER)

    tokens = {request["ClientRequestToken"] for _, request in middle.calls}
    assert (middle.operations, len(tokens)) == (["TransactWriteItems"] * 2, 1)
    assert table.metadata.get_many([ONE, TWO]) == {ONE: Record(ONE, 1, {"n": 1}), TWO: Record(TWO, 1, {"n": 2})}


def test_each_transaction_has_a_token_of_its_own(metadata: Metadata, middle: Between, table: Table) -> None:
    for _ in range(2):
        metadata.transact([Put(ONE, {"n": 1}, ANY), Put(TWO, {"n": 2}, ANY)])

    assert len({request["ClientRequestToken"] for _, request in middle.calls}) == 2
    assert table.metadata.get(ONE) == Record(ONE, 2, {"n": 1})


@pytest.mark.parametrize("write", [Put(ONE, {"n": 2}, 1), Put(ONE, {"n": 2}, ANY), Delete(ONE, 1)])
def test_a_single_write_whose_answer_is_lost_is_not_sent_again_behind_the_callers_back(
    metadata: Metadata, middle: Between, table: Table, write: Write
) -> None:
    table.metadata.transact([Put(ONE, {"n": 1}, ABSENT)])
    middle.faults.append(Lost())

    with pytest.raises(Unavailable, match="may have been done"):
        metadata.transact([write])

    assert len(middle.calls) == 1
    assert table.metadata.get(ONE) == (None if isinstance(write, Delete) else Record(ONE, 2, {"n": 2}))


def test_whoever_repeats_a_lost_single_write_learns_that_it_was_done(metadata: Metadata, middle: Between) -> None:
    middle.faults.append(Lost())
    with pytest.raises(Unavailable):
        metadata.transact([Put(ONE, {"n": 1}, ABSENT)])

    with pytest.raises(Conflict, match="found version 1"):
        metadata.transact([Put(ONE, {"n": 1}, ABSENT)])


@pytest.mark.parametrize("fault", [Lost(), BROKEN, SLOW_DOWN], ids=["lost", "broken", "slowed down"])
def test_reads_are_asked_again(metadata: Metadata, middle: Between, table: Table, fault: Fault) -> None:
    table.metadata.transact([Put(ONE, {"n": 1}, ABSENT)])
    reads: list[Callable[[], Any]] = [
        lambda: metadata.get(ONE),
        lambda: metadata.get_many([ONE])[ONE],
        lambda: metadata.query("p").records[0],
    ]

    for read in reads:
        middle.faults.append(fault)
        assert read() == Record(ONE, 1, {"n": 1})

    assert len(middle.calls) == 6


def test_a_connection_that_was_closed_while_it_rested_is_no_reason_to_lose_a_write(
    metadata: Metadata, middle: Between, table: Table
) -> None:
    middle.faults.append(HungUp())
    metadata.transact([Put(ONE, {"n": 1}, ABSENT)])
    assert middle.closed.wait(10)

    metadata.transact([Put(ONE, {"n": 2}, 1)])

    assert table.metadata.get(ONE) == Record(ONE, 2, {"n": 2})


# --- No time for us -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [[Put(ONE, {"n": 1}, ABSENT)], TOGETHER], ids=["one write", "several"])
def test_a_write_that_is_slowed_down_is_tried_again_after_longer_and_longer_waits(
    metadata: Metadata, middle: Between, table: Table, waits: list[float], writes: list[Write]
) -> None:
    middle.faults.extend([SLOW_DOWN] * (TRIES - 1))

    metadata.transact(writes)

    assert table.metadata.get(ONE) == Record(ONE, 1, {"n": 1})
    assert all(0 <= wait <= 0.1 * 2**n for n, wait in enumerate(waits))
    assert len(waits) == TRIES - 1


@pytest.mark.parametrize("writes", [[Put(ONE, {"n": 1}, ABSENT)], TOGETHER], ids=["one write", "several"])
def test_a_write_that_is_slowed_down_every_time_is_throttled_and_not_done(
    metadata: Metadata, middle: Between, table: Table, writes: list[Write]
) -> None:
    middle.faults.extend([SLOW_DOWN] * TRIES)

    with pytest.raises(Throttled, match="slowed down"):
        metadata.transact(writes)

    assert len(middle.calls) == TRIES
    assert table.metadata.get(ONE) is None


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_that_met_another_one_is_tried_again_with_the_same_token(
    metadata: Metadata, middle: Between, table: Table, code: str
) -> None:
    middle.faults.append(cancelled("None", code))

    metadata.transact(TOGETHER)

    assert len({request["ClientRequestToken"] for _, request in middle.calls}) == 1
    assert table.metadata.get(ONE) == Record(ONE, 1, {"n": 1})


def test_a_transaction_that_always_meets_another_one_is_throttled_and_no_conflict(
    metadata: Metadata, middle: Between
) -> None:
    middle.faults.extend([cancelled("TransactionConflict", "None")] * TRIES)

    with pytest.raises(Throttled, match="other transactions"):
        metadata.transact([Check(ONE, ABSENT), Put(TWO, {}, ABSENT)])


def test_a_failed_expectation_is_a_conflict_at_once_whatever_else_went_on(metadata: Metadata, middle: Between) -> None:
    middle.faults.append(cancelled("TransactionConflict", "ConditionalCheckFailed"))

    with pytest.raises(Conflict, match="writing p / two"):
        metadata.transact([Put(ONE, {}, ABSENT), Put(TWO, {}, 3)])

    assert len(middle.calls) == 1


def test_what_a_batch_leaves_out_is_asked_for_again(
    metadata: Metadata, middle: Between, table: Table, waits: list[float]
) -> None:
    table.metadata.transact(TOGETHER)
    nothing = {
        "Responses": {},
        "UnprocessedKeys": {table.name: {"Keys": [{"pk": {"S": "p"}, "sk": {"S": name}} for name in ("one", "two")]}},
    }
    some = {
        "Responses": {table.name: [_item("one", 1)]},
        "UnprocessedKeys": {table.name: {"Keys": [{"pk": {"S": "p"}, "sk": {"S": "two"}}]}},
    }
    middle.faults.extend([Said(200, nothing), Said(200, some)])

    found = metadata.get_many([ONE, TWO])

    assert found == {ONE: Record(ONE, 1, {"n": 1}), TWO: Record(TWO, 1, {"n": 2})}
    assert [len(request["RequestItems"][table.name]["Keys"]) for _, request in middle.calls] == [2, 2, 1]
    assert len(waits) == 1


def test_a_batch_of_which_nothing_is_ever_read_is_throttled(metadata: Metadata, middle: Between, table: Table) -> None:
    nothing = {"Responses": {}, "UnprocessedKeys": {table.name: {"Keys": [{"pk": {"S": "p"}, "sk": {"S": "one"}}]}}}
    middle.faults.extend([Said(200, nothing)] * TRIES)

    with pytest.raises(Throttled, match="could be read"):
        metadata.get_many([ONE])

    assert len(middle.calls) == TRIES


# --- Refusals -------------------------------------------------------------------------------------------------------


def test_missing_rights_are_named_and_not_asked_for_again(metadata: Metadata, middle: Between) -> None:
    middle.faults.append(DENIED)

    with pytest.raises(Unavailable, match=r"AccessDeniedException.*role"):
        metadata.get(ONE)

    assert len(middle.calls) == 1


@pytest.mark.parametrize("adapter", list(ADAPTERS))
def test_a_server_that_is_not_there_is_unavailable_after_a_few_tries(
    adapter: str, aws_keys: None, waits: list[float]
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    metadata = ADAPTERS[adapter]("records", region=REGION, endpoint_url=nobody, pause=waits.append)

    with pytest.raises(Unavailable, match="not reached"):
        metadata.transact([Put(ONE, {}, ABSENT)])

    assert len(waits) == TRIES - 1


# --- What is asked for ----------------------------------------------------------------------------------------------


def test_every_read_is_strongly_consistent(metadata: Metadata, middle: Between, table: Table) -> None:
    metadata.get(ONE)
    metadata.get_many([ONE])
    metadata.query("p", prefix="o", newest_first=True)

    get, batch, query = (request for _, request in middle.calls)
    assert [r["ConsistentRead"] for r in (get, batch["RequestItems"][table.name], query)] == [True] * 3


@pytest.mark.parametrize(
    ("writes", "operations"),
    [
        ([Put(ONE, {}, ABSENT)], ["PutItem"]),
        ([Put(ONE, {}, ANY)], ["UpdateItem"]),
        ([Delete(ONE, ANY)], ["DeleteItem"]),
        ([Check(ONE, ABSENT)], ["TransactWriteItems"]),
        ([Check(ONE, ANY)], []),
        ([Put(ONE, {}, ABSENT), Check(TWO, ANY)], ["PutItem"]),
        ([Put(ONE, {}, ABSENT), Check(TWO, ABSENT)], ["TransactWriteItems"]),
    ],
)
def test_one_write_alone_costs_no_transaction(
    metadata: Metadata, middle: Between, writes: list[Write], operations: list[str]
) -> None:
    metadata.transact(writes)

    assert middle.operations == operations


def test_the_capacity_of_every_call_is_told(table: Table, aws_keys: None) -> None:
    told: list[tuple[str, float, float]] = []
    metadata = DynamoDbHttpMetadata(
        table.name, region=REGION, endpoint_url=table.url, consumed=lambda *units: told.append(units)
    )

    metadata.transact([Put(ONE, {"v": "x" * 1500}, ABSENT)])
    metadata.transact([Put(TWO, {}, ABSENT), Check(ONE, 1)])
    metadata.get(TWO)
    metadata.get_many([ONE, TWO])
    metadata.query("p")

    assert [operation for operation, _, _ in told] == [
        "PutItem",
        "TransactWriteItems",
        "GetItem",
        "BatchGetItem",
        "Query",
    ]
    assert told[0] == ("PutItem", 0.0, 2.0)
    assert all(reads == 0.0 and writes > 0.0 for _, reads, writes in told[:2])
    assert all(reads > 0.0 and writes == 0.0 for _, reads, writes in told[2:])


def test_many_threads_share_one_adapter(metadata: Metadata) -> None:
    def write_and_read(number: int) -> Record | None:
        metadata.transact([Put(Key("p", f"{number}"), {"n": number}, ABSENT)])
        return metadata.get(Key("p", f"{number}"))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(write_and_read, range(32)))

    assert found == [Record(Key("p", f"{n}"), 1, {"n": n}) for n in range(32)]


def test_nobody_of_many_who_submit_to_one_project_at_once_gives_up(table: Table) -> None:
    counter = Key("project#1", "counter#execution")

    @again_on_conflict
    def submit(by: int) -> int:
        last = table.metadata.get(counter)
        number = last.value["last"] + 1 if last else 1
        entries = [Put(Key("project#1#executions", f"{number:010d}"), {"by": by}, ABSENT)]
        entries += [Put(Key(f"execution#{by}", f"{number}#{n}"), {"text": "x" * 300}, ABSENT) for n in range(8)]
        table.metadata.transact([Put(counter, {"last": number}, last.version if last else ABSENT), *entries])
        return number

    with ThreadPoolExecutor(8) as pool:
        numbers = [n for some in pool.map(lambda by: [submit(by) for _ in range(8)], range(8)) for n in some]

    assert sorted(numbers) == list(range(1, 65))


def _item(sort: str, version: int) -> dict[str, Any]:
    return {"pk": {"S": "p"}, "sk": {"S": sort}, "version": {"N": str(version)}, "value": {"S": f'{{"n":{version}}}'}}
