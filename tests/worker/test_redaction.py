"""Secrets leave the log in the forms in which they tend to leak."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamplighter_worker.redaction import Redactor

SECRET = "p@ss/word+ü1"


@pytest.mark.parametrize("before", ["", "u:", "user", "user:"])
@pytest.mark.parametrize("after", ["", "!", "!?", " and more"])
def test_a_secret_within_base64_is_hidden_in_every_alignment(before: str, after: str) -> None:
    leaked = base64.b64encode(f"{before}{SECRET}{after}".encode())

    clean = Redactor([SECRET]).clean(b"Authorization: Basic " + leaked)

    assert b"****" in clean
    assert base64.b64encode(SECRET.encode())[4:12] not in clean


@pytest.mark.parametrize(
    "form", [SECRET, quote(SECRET, safe=""), f'{{"k": "{SECRET}"}}', '{"k": "p@ss/word+\\u00fc1"}']
)
def test_a_secret_is_hidden_as_it_is_and_encoded(form: str) -> None:
    clean = Redactor([SECRET]).clean(f"got {form} here".encode())

    assert b"****" in clean
    assert b"word" not in clean


def test_each_line_of_a_secret_of_several_lines_is_hidden() -> None:
    redactor = Redactor(["-----BEGIN KEY-----\nabcdef123456\n-----END KEY-----\n"])

    assert redactor.clean(b"abcdef123456\n") == b"****\n"


def test_short_values_are_left_alone() -> None:
    assert Redactor(["1", "on", "abc"]).clean(b"1 on abc") == b"1 on abc"


@given(st.lists(st.text(min_size=4, max_size=20), max_size=5), st.text(max_size=200))
def test_no_secret_survives_whatever_surrounds_it(secrets: list[str], text: str) -> None:
    redactor = Redactor(secrets)

    clean = redactor.clean((text + "".join(secrets) + text).encode("utf-8", "replace"))

    for secret in secrets:
        if "*" not in secret:
            assert secret.encode("utf-8", "replace") not in clean
