"""YAML from strangers: bombs and surprises are refused with a place, honest files read as the clients read them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import yaml

from adapters.blueprints.bounded_yaml import MAX_BYTES, MAX_DEPTH, load
from lamplighter.errors import Invalid

K = MAX_BYTES

HOSTILE: dict[str, tuple[bytes, str]] = {
    "a bomb of aliases": (b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "line 2, column 8: aliases"),
    "a list that holds itself": (b"&a [*a]", "line 1, column 5: aliases"),
    "a merge key": (b"<<: {a: 1}\n", "merge keys"),
    "deep flow lists": (b"[" * K, "nested deeper than 40"),
    "deep flow mappings": (b"{a: " * (K // 4), "nested deeper than 40"),
    "deep block lists": (b"- " * (K // 2), "nested deeper than 40"),
    "one level too deep": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 40"),
    "many values": (b"[" + b"a," * (K // 2 - 2) + b"]", "more than 20000 values"),
    "many anchors": (b"".join(b"- &a%d x\n" % n for n in range(20001)), "more than 20000 values"),
    "a file too large": (b"#" * (K + 1), "at most 262144"),
    "a key twice": (b"a: 1\nb: 2\na: 3\n", 'line 3, column 1: the key "a" occurs twice'),
    "a python tag": (b"!!python/object/apply:os.system ['true']", "tags"),
    "a plain tag": (b"a: !!str 5", "line 1, column 4: tags"),
    "a tag on a mapping": (b"!x {a: 1}", "tags"),
    "tag directives": (b"".join(b"%%TAG !e%d! tag:x,2000:\n" % n for n in range(9000)) + b"--- a", "%TAG"),
    "an integer of 5000 digits": (b"a: " + b"1" * 5000, "out of range"),
    "an integer beyond 64 bit": (b"9223372036854775808", "out of range"),
    "a hexadecimal beyond 64 bit": (b"0x10000000000000000", "out of range"),
    "infinity": (b".inf", "out of range"),
    "no number": (b".NaN", "out of range"),
    "a float that overflows": (b"1.0e+999", "out of range"),
    "a number as key": (b"1: a", "a key must be text"),
    "null as key": (b"~: a", "a key must be text"),
    "a list as key": (b"? [a]\n: b", "a key must be text"),
    "two documents": (b"--- a\n--- b\n", "line 2, column 1: a second document"),
    "a tab as indentation": (b"a:\n\t- b", "line 2, column 1: it is not sound YAML"),
    "an unclosed quote": (b'a: "b', "it is not sound YAML"),
    "an unclosed list": (b"a: [b", "it is not sound YAML"),
    "a byte that is not UTF-8": (b"a: \xff", "byte 3 is not UTF-8"),
    "UTF-16": ("a: b".encode("utf-16"), "not UTF-8"),
    "a control character": (b"a: \x07", "not sound YAML"),
    "a NUL": (b'"\\0"', "NUL"),
    "half a surrogate": (b'"\\ud800"', ""),
    "an alias to nothing": (b"*a", "aliases"),
    "an unknown directive twice": (b"%YAML 1.1\n%YAML 1.1\n--- a", "not sound YAML"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_yaml_is_refused_in_little_memory_with_a_readable_message(case: str) -> None:
    text, expected = HOSTILE[case]
    tracemalloc.start()

    with pytest.raises(Invalid) as refused:
        load(text)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (message,) = refused.value.fields["yaml"]
    assert expected in message
    assert len(message) < 600
    assert peak < 32 << 20


@pytest.mark.parametrize(
    "text",
    [
        b"a" * K,
        b"# " * (K // 2),
        b"\n" * K,
        b'"' + b"x" * (K - 2) + b'"',
        b"a: |\n" + b" b\n" * 80_000,
        b"_" * K,
        b"-" * K,
    ],
)
def test_long_but_simple_files_are_read(text: bytes) -> None:
    load(text)


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "no",
        "on",
        "off",
        "Yes",
        "NO",
        "true",
        "False",
        "~",
        "null",
        "Null",
        "5",
        "-5",
        "+5",
        "0",
        "007",
        "0x1F",
        "0b101",
        "1_000",
        "1:30",
        "-1:30:00",
        "1.5",
        "-1.5",
        "1.",
        ".5",
        "1.5e+3",
        "1e5",
        "1_0.5",
        "1:30.5",
        "abc",
        "'yes'",
        '"5"',
        "''",
        '"null"',
        "1.2.3",
        "0o17",
        "08",
        "y",
        "n",
        "-",
        "12:60",
        "+.5",
        "1e-3",
        "0x",
        "0b",
        "0b2",
        "_",
        "1_",
        "-_1",
        "0.0",
        "-0.0",
    ],
)
def test_plain_words_mean_what_they_mean_to_the_clients(text: str) -> None:
    if text == "-":
        text = "[-1]"

    ours, theirs = _outcome(load, text.encode()), _outcome(yaml.safe_load, text)

    assert (ours, type(ours)) == (theirs, type(theirs))


def _outcome(read: Any, text: Any) -> Any:
    try:
        return read(text)
    except (Invalid, ValueError):
        return "refused"


@pytest.mark.parametrize("text", ["2001-12-14", "2001-99-99", "2001-12-14t21:59:43.10-05:00", "="])
def test_dates_and_other_oddities_stay_text(text: str) -> None:
    assert load(text.encode()) == text


def test_the_largest_and_smallest_integers_are_kept() -> None:
    assert load(b"[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]


def test_an_ordinary_file_reads_as_the_clients_read_it() -> None:
    text = (
        b"\xef\xbb\xbf"
        + """
- step:
    name: träin   # comment
    image: python:3.12
    command:
      - python train.py {parameters}
      - |
        echo "two
        lines"
    parameters:
      - {name: lr, type: float, default: 0.5, optional: yes}
      - name: "label"
        default:
    empty: {}
    none: []
""".encode()
    )

    assert load(text) == yaml.safe_load(text)


def test_an_empty_file_is_nothing() -> None:
    assert load(b"") is None
    assert load(b"# only a comment\n") is None


def test_the_deepest_allowed_nesting_is_read() -> None:
    value = load(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)

    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == []
