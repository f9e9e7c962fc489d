"""Messages as the first release wrote them: agents and servers of any later release must still read them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lamplighter.contract import report
from lamplighter.contract.wire import decode, encode

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
MESSAGES = {
    name for name, kind in vars(report).items() if dataclasses.is_dataclass(kind) and kind.__module__ == report.__name__
}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_message_is_read_and_keeps_all_it_said(path: Path) -> None:
    body = json.loads(path.read_text())

    read = decode(getattr(report, path.stem), body)

    assert contains(encode(read), body)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_message_of_a_later_release_is_read_without_what_is_unknown(path: Path) -> None:
    body = json.loads(path.read_text())

    read = decode(getattr(report, path.stem), {**body, "added_later": {"x": 1}})

    assert read == decode(getattr(report, path.stem), body)


def test_every_message_of_the_contract_was_recorded() -> None:
    assert {path.stem for path in RECORDED} == MESSAGES


def contains(whole: Any, part: Any) -> bool:
    """Later releases may add fields; what was there stays as it was."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)
