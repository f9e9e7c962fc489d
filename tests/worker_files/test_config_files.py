"""What a program reads from the config directory is what was written there, whichever form it reads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from lamplighter_worker.config_files import to_yaml, write_config

TEXTS = st.text() | st.sampled_from(
    [
        *(
            "",
            " ",
            "yes",
            "No",
            "on",
            "off",
            "y",
            "n",
            "true",
            "null",
            "~",
            "NaN",
            ".inf",
            "=",
            "<<",
            "!",
            "&a",
            "*a",
            "-",
            "?",
        ),
        *(
            "1e3",
            "0o7",
            "0x1f",
            "1_000",
            "1:30",
            "2026-01-05",
            "2026-01-05T10:00:00Z",
            "1.0",
            "-",
            "---",
            "...",
            "# x",
            "a: b",
        ),
        *(
            "a #b",
            "{a}",
            "[a]",
            "'",
            '"',
            "\\",
            "a\nb",
            "\t",
            "\r\n",
            "\x85",
            "\u2028",
            "\ufeff",
            "\x7f",
            "😀",
            "%",
            "@a",
            "`a",
        ),
        "a" * 2000,
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type all the way down: 1 is not 1.0, nor True."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and (not isinstance(one, float) or math.copysign(1, one) == math.copysign(1, other))


@given(JSON)
@example(1e-05)
@example(1e16)
@example(-0.0)
@example([[], {}, [[]], [{}], [[1, [2]], {"a": [{"b": 1}]}]])
@example({"a" * 1500: {"b" * 1500: ["c"]}, "": [{"d" * 1500: {}}]})
@example({"\ud800": "\udfff"})
def test_yaml_readers_read_back_the_same_value(value: Any) -> None:
    assert same(yaml.safe_load(to_yaml(value)), value)


@given(JSON)
def test_the_files_agree(value: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        write_config(Path(name), {"parameters": value})

        assert same(json.loads(Path(name, "parameters.json").read_text()), value)
        assert same(yaml.safe_load(Path(name, "parameters.yaml").read_text()), value)


def test_floats_stay_floats_and_words_stay_readable(tmp_path: Path) -> None:
    write_config(
        tmp_path, {"parameters": {"lr": 1.0, "tiny": 1e-05, "layers": ["a", "b"], "label": None, "agree": "yes"}}
    )

    assert '"lr": 1.0' in (tmp_path / "parameters.json").read_text()
    assert (tmp_path / "parameters.yaml").read_text() == (
        'lr: 1.0\ntiny: 1.0e-05\nlayers:\n  - a\n  - b\nlabel: null\nagree: "yes"\n'
    )


def test_every_name_gets_both_files_and_nothing_else(tmp_path: Path) -> None:
    write_config(tmp_path / "config", {"execution": {}, "runtime": {"a": 1}})
    write_config(tmp_path / "config", {"execution": {"b": 2}})

    assert {p.name for p in (tmp_path / "config").iterdir()} == {
        *("execution.json", "execution.yaml", "runtime.json", "runtime.yaml")
    }
    assert json.loads((tmp_path / "config/execution.json").read_text()) == {"b": 2}


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_is_written_as_readers_expect_it(value: float) -> None:
    assert yaml.safe_load(to_yaml({"a": value})) == {"a": value}


def test_what_is_no_number_is_written_as_readers_expect_it() -> None:
    assert math.isnan(yaml.safe_load(to_yaml([math.nan]))[0])
