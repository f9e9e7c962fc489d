"""The spool: what was written once is read once, in order, after a crash at any byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamplighter_worker import spool as spool_module
from lamplighter_worker.spool import Record, Spool

from lamplighter.errors import SequenceGap


def record(first: int, count: int, offset: int) -> Record:
    lines = ",".join(f'[{first + i},0,"line {first + i}"]' for i in range(count))
    metadata = f'[{first},{{"n":{first}}}]'
    return Record(first, count, lines.encode(), metadata.encode(), (offset, 0), first + count - 1)


def fill(spool: Spool, counts: list[int]) -> None:
    for count in counts:
        spool.append([record(spool.next_seq, count, spool.next_seq + count)])


def drain(spool: Spool, most_lines: int = 10) -> list[int]:
    seqs: list[int] = []
    while (batch := spool.take(most_lines, 10**6)) is not None:
        lines = json.loads(b"[" + batch.lines + b"]")
        assert batch.first_seq + batch.count == lines[-1][0] + 1
        assert len(lines) == batch.count
        assert all(
            batch.first_seq <= seq < batch.first_seq + batch.count
            for seq, _ in json.loads(b"[" + batch.metadata + b"]")
        )
        seqs += [line[0] for line in lines]
    return seqs


def test_events_come_out_as_they_went_in(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 3)
    fill(spool, [1, 4, 7, 2])

    assert drain(spool) == list(range(3, 17))


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_spool_cut_off_anywhere_keeps_its_good_beginning(cut: int, tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    fill(spool, [2, 2, 2])
    spool.close()
    [segment] = tmp_path.glob("*.spool")
    whole = segment.read_bytes()
    segment.write_bytes(whole[: max(0, len(whole) - cut)])

    again = Spool(tmp_path, 0)

    assert again.offsets == (again.next_seq, 0)
    fill(again, [3])
    assert drain(again) == list(range(again.next_seq))


@pytest.mark.parametrize("place", range(0, 200, 5))
def test_a_damaged_record_ends_the_good_beginning(place: int, tmp_path: Path) -> None:
    spool = Spool(tmp_path, 0)
    fill(spool, [2, 2, 2])
    spool.close()
    [segment] = tmp_path.glob("*.spool")
    content = bytearray(segment.read_bytes())
    content[place] ^= 0xFF
    segment.write_bytes(content)

    again = Spool(tmp_path, 0)

    assert again.next_seq in (0, 2, 4)
    assert drain(again) == list(range(again.next_seq))


def test_acknowledged_segments_are_removed_and_the_place_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 100)
    spool = Spool(tmp_path, 0)
    fill(spool, [3] * 20)
    assert drain(spool) == list(range(60))

    spool.acknowledge(60)

    assert len(list(tmp_path.glob("*.spool"))) == 1
    spool.close()
    again = Spool(tmp_path, 0)
    assert (again.next_seq, again.offsets) == (60, (60, 0))


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=20), data=st.data())
def test_reading_goes_on_from_any_event_that_is_asked_for(
    counts: list[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), 5)
    fill(spool, counts)
    end = 5 + sum(counts)
    for _ in range(3):
        drain(spool)
        wanted = data.draw(st.integers(5, end))

        spool.seek(wanted)

        assert drain(spool, data.draw(st.integers(1, 12))) == list(range(wanted, end))


def test_events_that_are_not_there_cannot_be_asked_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 5)
    fill(spool, [3])

    with pytest.raises(SequenceGap):
        spool.seek(9)
    with pytest.raises(SequenceGap):
        spool.seek(4)
