"""What the Metadata port promises of queries, asked of every adapter."""

from __future__ import annotations

import pytest

from lamplighter.errors import Invalid
from lamplighter.ports import ABSENT, ANY, Delete, Key, Metadata, Put, Record
from tests.conformance.metadata_places import put, sorts

TRICKY = [
    "Z",
    "a",
    "a\x00",
    "a/",
    "a/1",
    "a/10",
    "a/2",
    "a0",
    "b",
    "é",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "😀",
    "😀1",
    "\U0010ffff",
]


def test_a_query_is_in_the_order_of_the_utf8_bytes_of_the_sort_keys(metadata: Metadata) -> None:
    for sort in reversed(TRICKY):
        put(metadata, sort)
        put(metadata, sort, partition="other")

    found = sorts(metadata)

    assert found == sorted(TRICKY, key=str.encode)
    assert sorts(metadata, newest_first=True) == found[::-1]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/1", "😀", "\ud7ff", "\uffff", "\U0010ffff", "nothing"])
@pytest.mark.parametrize("after", [None, "", "a", "a/1", "a/11", "\ud7ff"])
def test_prefix_after_and_before_bound_a_query_strictly(
    metadata: Metadata, prefix: str, after: str | None, newest_first: bool
) -> None:
    metadata.transact([Put(Key("p", sort), {}, ABSENT) for sort in TRICKY])

    for before in (None, "a/2", "b", "\uffff"):
        found = sorts(metadata, prefix=prefix, after=after, before=before, newest_first=newest_first, limit=2)

        expected = [
            sort
            for sort in TRICKY
            if sort.startswith(prefix) and (after is None or sort > after) and (before is None or sort < before)
        ]
        assert found == (expected[::-1] if newest_first else expected)


@pytest.mark.parametrize("newest_first", [False, True])
def test_bounds_that_are_longer_than_any_key_bound_a_query_like_others(metadata: Metadata, newest_first: bool) -> None:
    longest = "m" * 1024
    metadata.transact([Put(Key("p", sort), {}, ABSENT) for sort in ("a", longest, "z")])

    found = {
        "after": sorts(metadata, after=longest + "m", newest_first=newest_first),
        "before": sorts(metadata, before=longest + "m", newest_first=newest_first),
        "between": sorts(metadata, after="b", before=longest + "m", newest_first=newest_first),
        "prefix": sorts(metadata, prefix=longest + "m", newest_first=newest_first),
        "prefix of one": sorts(metadata, prefix=longest, newest_first=newest_first),
        "nothing": sorts(metadata, after="x", before="c", newest_first=newest_first),
        "below the empty text": sorts(metadata, before="", newest_first=newest_first),
    }

    assert {name: sorted(rows) for name, rows in found.items()} == {
        "after": ["z"],
        "before": ["a", longest],
        "between": [longest],
        "prefix": [],
        "prefix of one": [longest],
        "nothing": [],
        "below the empty text": [],
    }


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 1000])
def test_the_pages_of_a_query_hold_each_record_once_and_never_more_than_the_limit(
    metadata: Metadata, limit: int
) -> None:
    metadata.transact([Put(Key("p", f"{n}"), {"n": n}, ABSENT) for n in range(8)])

    first = metadata.query("p", limit=limit)

    assert 1 <= len(first.records) <= limit
    assert first.records[0] == Record(Key("p", "0"), 1, {"n": 0})
    assert (first.cursor is None) == (len(first.records) == 8)
    assert sorts(metadata, limit=limit) == [f"{n}" for n in range(8)]


def test_a_cursor_goes_on_where_its_page_ended_although_records_came_and_went(metadata: Metadata) -> None:
    metadata.transact([Put(Key("p", sort), {}, ABSENT) for sort in "bdfh"])
    first = metadata.query("p", limit=2)

    metadata.transact([Delete(Key("p", "d"), ANY), Put(Key("p", "a"), {}, ANY), Put(Key("p", "e"), {}, ANY)])
    second = metadata.query("p", limit=3, cursor=first.cursor)

    assert [record.key.sort for record in first.records] == ["b", "d"]
    assert [record.key.sort for record in second.records] == ["e", "f", "h"]
    assert second.cursor is None


def test_a_page_of_large_records_ends_early_and_the_cursor_finds_the_rest(metadata: Metadata) -> None:
    for n in range(6):
        put(metadata, f"{n}", {"v": "x" * 390_000})

    page = metadata.query("p")

    assert len(page.records) < 6
    assert page.cursor is not None
    assert sorts(metadata) == [f"{n}" for n in range(6)]


def test_a_partition_without_records_is_an_empty_page(metadata: Metadata) -> None:
    put(metadata, "one", partition="pp")

    page = metadata.query("p")

    assert page.records == ()
    assert page.cursor is None


@pytest.mark.parametrize("cursor", ["?", "not ours", "é", "_w=="])
def test_a_cursor_that_is_not_ours_is_refused(metadata: Metadata, cursor: str) -> None:
    put(metadata, "one")

    with pytest.raises(Invalid) as refused:
        metadata.query("p", cursor=cursor)

    assert "cursor" in refused.value.fields


def test_a_query_without_a_partition_or_a_page_size_is_refused(metadata: Metadata) -> None:
    with pytest.raises(ValueError, match="partition"):
        metadata.query("")
    with pytest.raises(ValueError, match="at least one"):
        metadata.query("p", limit=0)
