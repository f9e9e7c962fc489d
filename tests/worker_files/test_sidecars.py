"""What runs say about their outputs is read with care, and its faults are said plainly."""

from __future__ import annotations

from pathlib import Path

import pytest
from lamplighter_worker.sidecars import MAX_SIDECAR, Sidecars, described_by, is_sidecar


def test_sidecars_are_told_from_outputs_by_name() -> None:
    assert described_by("a/b.bin.metadata.json") == "a/b.bin"
    assert is_sidecar("valohai.metadata.jsonl")
    for output in ("a.json", "metadata.json", ".metadata.json", "a/.metadata.json", "a/valohai.metadata.jsonl"):
        assert not is_sidecar(output)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[1]", b"1", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff", b"[" * 200_000, b'{"a": 1} x'),
        b'{"a": "' + b"x" * MAX_SIDECAR + b'"}',
    ],
)
def test_a_sidecar_that_cannot_be_used_is_said_at_the_end_and_only_then(tmp_path: Path, content: bytes) -> None:
    said: list[str] = []
    sidecars = Sidecars(tmp_path, said.append)
    (tmp_path / "a.metadata.json").write_bytes(content)
    (tmp_path / "valohai.metadata.jsonl").write_bytes(
        content.replace(b"\n", b" ") + b'\n{"file": "a", "metadata": {"b": 1}}\n'
    )

    assert sidecars.about("a", aloud=False) == {"b": 1}
    assert said == []
    assert sidecars.about("a", aloud=True) == {"b": 1}
    assert sidecars.about("a", aloud=True) == {"b": 1}

    assert [text.split(" was ignored: ")[0] for text in said if "jsonl" not in text] == ["a.metadata.json"]
    assert len(said) == (1 if content == b"" else 2)
    assert all(len(text) < 500 and "\n" not in text for text in said)


@pytest.mark.parametrize(
    "line", ['{"file": 1, "metadata": {}}', '{"file": "a"}', '{"file": "a", "metadata": []}', "{}"]
)
def test_a_line_without_its_keys_is_said_with_its_number(tmp_path: Path, line: str) -> None:
    said: list[str] = []
    (tmp_path / "valohai.metadata.jsonl").write_text('{"file": "a", "metadata": {"b": 1}}\n' + line)

    assert Sidecars(tmp_path, said.append).about("a", aloud=True) == {"b": 1}

    assert len(said) == 1
    assert said[0].startswith("valohai.metadata.jsonl, line 2 was ignored: ")


def test_lines_of_a_rewritten_file_replace_those_of_the_old_one(tmp_path: Path) -> None:
    sidecars = Sidecars(tmp_path, print)
    lines = tmp_path / "valohai.metadata.jsonl"
    lines.write_text('{"file": "a", "metadata": {"old": 1, "more": "than the new one"}}\n')
    assert sidecars.about("a", aloud=False)

    lines.unlink()
    lines.write_text('{"file": "a", "metadata": {"new": 2}}\n')

    assert sidecars.about("a", aloud=False) == {"new": 2}


def test_a_file_of_lines_beyond_all_bounds_is_read_up_to_the_bound(tmp_path: Path) -> None:
    said: list[str] = []
    line = b'{"file": "a", "metadata": {"b": "' + b"x" * 1_000_000 + b'"}}\n'
    with (tmp_path / "valohai.metadata.jsonl").open("wb") as file:
        for _ in range(70):
            file.write(line)
        file.write(b'{"file": "late", "metadata": {"b": 1}}\n')

    sidecars = Sidecars(tmp_path, said.append)

    assert sidecars.about("late", aloud=True) == {}
    assert said == ["valohai.metadata.jsonl was read up to 64 MiB: what follows was ignored"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "outputs").mkdir()
    (tmp_path / "secret").write_text('{"secret": 1}')
    (tmp_path / "outputs/a.metadata.json").symlink_to(tmp_path / "secret")
    (tmp_path / "outputs/valohai.metadata.jsonl").symlink_to(tmp_path / "secret")

    assert Sidecars(tmp_path / "outputs", said.append).about("a", aloud=True) == {}

    assert len(said) == 2


def test_many_lonely_sidecars_are_said_in_few_lines(tmp_path: Path) -> None:
    said: list[str] = []

    Sidecars(tmp_path, said.append).lonely({f"f{n:02}" for n in range(30)})

    assert len(said) == 21
    assert said[0] == "f00.metadata.json was ignored: there is no file f00 that it could describe"
    assert said[-1] == "10 more .metadata.json files were ignored: the files they describe are not there"


def test_files_that_are_no_outputs_are_said(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "valohai.metadata.jsonl").write_text(
        "".join(f'{{"file": "f{n:02}", "metadata": {{}}}}\n' for n in range(30))
    )

    Sidecars(tmp_path, said.append).strangers({"f00"})

    assert len(said) == 21
    assert said[0] == "valohai.metadata.jsonl speaks of 'f01', which is no output"
    assert said[-1] == "valohai.metadata.jsonl speaks of 9 more files which are no outputs"
