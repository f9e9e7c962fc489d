"""The code of a run is exactly the archive that the job names, unpacked."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from lamplighter_worker.code import fetch_code

from lamplighter.contract.job import Code
from lamplighter.errors import Forbidden, Invalid
from tests.worker_files.server import Answer, Server


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def code(server: Server, data: bytes) -> Code:
    return Code(server.get("/code", data), sha256(data).hexdigest(), len(data))


def test_the_tree_is_unpacked_and_the_archive_not_kept(server: Server, tmp_path: Path) -> None:
    fetch_code(
        code(server, archive(**{"train.py": "print()", "lib/a.py": ""})), tmp_path / "repository", tmp_path / "tmp"
    )

    assert (tmp_path / "repository/train.py").read_text() == "print()"
    assert (tmp_path / "repository/lib/a.py").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_repeated_fetch_leaves_nothing_of_the_first(server: Server, tmp_path: Path) -> None:
    fetch_code(code(server, archive(old="1")), tmp_path / "repository", tmp_path / "tmp")

    fetch_code(code(server, archive(new="2")), tmp_path / "repository", tmp_path / "tmp")

    assert [p.name for p in (tmp_path / "repository").iterdir()] == ["new"]


def test_another_archive_than_promised_is_refused(server: Server, tmp_path: Path) -> None:
    right = archive(a="1")
    wrong = Code(server.get("/code", archive(a="2")), sha256(right).hexdigest(), len(right))

    with pytest.raises(Invalid):
        fetch_code(wrong, tmp_path / "repository", tmp_path / "tmp")

    assert not (tmp_path / "repository").exists()


def test_an_archive_that_leads_outside_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        fetch_code(code(server, archive(**{"../evil": "x"})), tmp_path / "repository", tmp_path / "tmp")

    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_expired_call_asks_for_a_fresh_one(server: Server, tmp_path: Path) -> None:
    expired = code(server, archive(a="1"))
    server.answers["/code"].append(Answer(403))

    with pytest.raises(Forbidden):
        fetch_code(expired, tmp_path / "repository", tmp_path / "tmp")
