"""Cutting lines: any bytes a program may write become the events one expects, whenever the agent looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamplighter_worker.capture import Capture
from lamplighter_worker.redaction import Redactor
from lamplighter_worker.spool import Spool
from lamplighter_worker.tail import LONGEST_LINE

Events = list[list[Any]]


def captured(
    directory: Path, stdout: bytes, stderr: bytes = b"", secrets: tuple[str, ...] = ()
) -> tuple[Events, Events]:
    """The events and points of a run that wrote this."""
    (directory / "stdout").write_bytes(stdout)
    (directory / "stderr").write_bytes(stderr)
    return go_on(directory, secrets)


def go_on(directory: Path, secrets: tuple[str, ...] = ()) -> tuple[Events, Events]:
    spool = Spool(directory / "spool", 0)
    capture = Capture(spool, directory, Redactor(secrets))
    capture.start()
    capture.finish(lambda: None)
    return everything(spool)


def everything(spool: Spool) -> tuple[Events, Events]:
    lines: Events = []
    points: Events = []
    spool.seek(0)
    while (batch := spool.take(5000, 1024 * 1024)) is not None:
        assert batch.count <= 5000
        lines += json.loads(b"[" + batch.lines + b"]")
        points += json.loads(b"[" + batch.metadata + b"]")
    spool.close()
    times = [line[0] for line in lines]
    assert times == sorted(set(times))
    return lines, points


def texts(events: Events, stream: int = 0) -> list[str]:
    return [text for _, s, text in events if s == stream]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\n", ["a", "b"]),
        (b"no end", ["no end"]),
        (b"a\n\n\nb", ["a", "", "", "b"]),
        (b"10%\r20%\rdone\n", ["10%\r20%\rdone"]),
        (b"bad \xff byte\n", ["bad \ufffd byte"]),
        ("ä€😀\u2028x\n".encode(), ["ä€😀\u2028x"]),
        (b"\x00\x1b[31m\n", ["\x00\x1b[31m"]),
    ],
)
def test_bytes_become_lines(written: bytes, expected: list[str], tmp_path: Path) -> None:
    events, _ = captured(tmp_path, written)

    assert texts(events) == expected


@settings(max_examples=80, deadline=None)
@given(parts=st.lists(st.binary(max_size=30), min_size=1, max_size=6))
def test_lines_are_the_same_however_the_agent_is_interrupted(
    parts: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("run")
    whole = b"".join(parts)
    for number in range(len(parts)):
        (directory / "stdout").write_bytes(b"".join(parts[: number + 1]))
        spool = Spool(directory / "spool", 0)
        capture = Capture(spool, directory, Redactor(()))
        capture._pass(final=False)
        capture._pass(final=False)
        capture.close()
        spool.close()

    events, _ = go_on(directory)

    text = whole.decode("utf-8", "replace").replace("\r\n", "\n")
    expected = text.split("\n")
    assert texts(events) == (expected if expected[-1] else expected[:-1])


@pytest.mark.parametrize("length", [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, 3 * LONGEST_LINE, 700_001])
def test_a_very_long_line_comes_in_pieces(length: int, tmp_path: Path) -> None:
    line = ("0123456789" * (length // 10 + 1))[:length]

    events, _ = captured(tmp_path, f"before\n{line}\nafter\n".encode())

    before, *pieces, after = texts(events)
    assert (before, after) == ("before", "after")
    assert "".join(pieces) == line
    assert max(map(len, pieces)) <= LONGEST_LINE


def test_pieces_of_a_long_line_do_not_part_characters(tmp_path: Path) -> None:
    line = "a" + "€" * 200_000

    events, _ = captured(tmp_path, line.encode())

    assert "".join(texts(events)) == line


def test_a_secret_is_not_parted_by_pieces(tmp_path: Path) -> None:
    line = "x" * (LONGEST_LINE - 6) + "hunter2-secret" + "y" * 2 * LONGEST_LINE

    events, _ = captured(tmp_path, line.encode(), secrets=("hunter2-secret",))

    assert "".join(texts(events)).count("****") == 1
    assert "hunter2" not in "".join(texts(events))


def test_many_empty_lines_stay_within_the_batches(tmp_path: Path) -> None:
    events, _ = captured(tmp_path, b"\n" * 60_000)

    assert texts(events) == [""] * 60_000


def test_objects_on_stdout_are_points_and_nothing_else_is(tmp_path: Path) -> None:
    lines = [
        '{"a": 1}',
        ' {"b": [1, 2]} ',
        "[1]",
        "{broken",
        '{"c": NaN, "d": 1e999, "e": 2}',
        '{"\\ud800": 1}',
        "12",
        "{" * 5000,
    ]

    events, points = captured(tmp_path, "\n".join(lines).encode(), stderr=b'{"no": 1}\n')

    assert [point for _, point in points] == [{"a": 1}, {"b": [1, 2]}, {"c": None, "d": None, "e": 2}, {"?": 1}]
    by_seq = {seq: event[2] for seq, event in enumerate(events)}
    assert [by_seq[seq] for seq, _ in points] == [lines[0], lines[1], lines[4], lines[5]]


def test_a_long_object_is_one_point_though_its_line_comes_in_pieces(tmp_path: Path) -> None:
    line = json.dumps({"matrix": ["x" * 10] * 40_000})

    events, points = captured(tmp_path, f"first\n{line}\nlast\n".encode())

    assert "".join(texts(events)[1:-1]) == line
    [(seq, point)] = points
    assert seq == 1
    assert len(point["matrix"]) == 40_000


def test_points_beyond_the_rate_are_dropped_with_one_warning_that_keeps_the_newest(tmp_path: Path) -> None:
    written = "".join(f'{{"step": {i}}}\n' for i in range(500))

    events, points = captured(tmp_path, written.encode())

    assert len(texts(events)) == 500
    [warning] = texts(events, 2)
    assert "450 points were dropped" in warning
    assert len(points) == 51
    assert points[-1][1] == {"step": 499}
    assert events[points[-1][0]][2] == warning


def test_both_streams_are_followed(tmp_path: Path) -> None:
    events, _ = captured(tmp_path, b"out 1\nout 2\n", b"err 1\nerr 2")

    assert texts(events, 0) == ["out 1", "out 2"]
    assert texts(events, 1) == ["err 1", "err 2"]
