"""What the SQLite adapter promises beyond the port: it survives kills, full disks, locks and foreign files."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.metadata.sqlite import SCHEMA, SqliteMetadata
from lamplighter.errors import Invalid, Unavailable
from lamplighter.ports import ABSENT, ANY, Key, Put

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from adapters.metadata.sqlite import SqliteMetadata
from lamplighter.ports import ABSENT, Key, Put
metadata = SqliteMetadata(sys.argv[1])
n = 0
while True:
    metadata.transact([Put(Key("a", f"{n:06}"), {"n": n}, ABSENT), Put(Key("b", f"{n:06}"), {"n": n}, ABSENT)])
    print(n, flush=True)
    n += 1
"""

FULL_DISK = """
import resource, sys
from adapters.metadata.sqlite import SqliteMetadata
from lamplighter.errors import Unavailable
from lamplighter.ports import ABSENT, ANY, Key, Put
metadata = SqliteMetadata(sys.argv[1])
metadata.transact([Put(Key("a", "kept"), {"n": 1}, ABSENT)])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    metadata.transact([Put(Key("a", "kept"), {"n": 2}, 1), Put(Key("a", "large"), {"v": "x" * 300_000}, ANY)])
except Unavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
metadata.transact([Put(Key("a", "after"), {}, ABSENT)])
print(sorted((r.key.sort, r.version) for r in metadata.query("a").records), metadata.check())
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
def test_a_killed_process_loses_nothing_it_acknowledged_and_leaves_no_half_transaction(
    tmp_path: Path, acknowledged: int
) -> None:
    path = tmp_path / "metadata.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(acknowledged)][-1]

        writer.send_signal(signal.SIGKILL)
        writer.wait()

    metadata = SqliteMetadata(path)
    a, b = ([record.value["n"] for record in metadata.query(partition).records] for partition in "ab")
    assert a == b == list(range(len(a)))
    assert len(a) > last
    assert metadata.check() == []
    metadata.close()


def test_a_disk_that_takes_no_more_is_explained_and_harms_nothing(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "metadata.db"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    said, state = child.stdout.strip().split("\n")

    assert "did not answer (SQLITE_" in said
    assert "free" in said
    assert state == "[('after', 1), ('kept', 1)] []"


def test_a_lock_that_another_process_keeps_is_unavailable_for_writers_and_no_trouble_for_readers(
    tmp_path: Path,
) -> None:
    metadata = SqliteMetadata(tmp_path / "metadata.db", busy_seconds=0.05)
    metadata.transact([Put(Key("p", "one"), {}, ABSENT)])
    other = sqlite3.connect(tmp_path / "metadata.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match=r"SQLITE_BUSY.*another process"):
        metadata.transact([Put(Key("p", "one"), {}, ANY)])
    assert metadata.get(Key("p", "one")) is not None
    other.execute("ROLLBACK")

    metadata.transact([Put(Key("p", "one"), {}, 1)])
    other.close()
    metadata.close()


def test_a_file_of_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    SqliteMetadata(tmp_path / "metadata.db").close()
    with sqlite3.connect(tmp_path / "metadata.db") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()

    with pytest.raises(Invalid, match=rf"schema {SCHEMA + 1}.*newer Lamplighter"):
        SqliteMetadata(tmp_path / "metadata.db")


def test_a_file_that_is_no_database_and_a_folder_that_is_not_there_are_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are notes\n" * 100)

    with pytest.raises(Unavailable, match="no SQLite database"):
        SqliteMetadata(tmp_path / "notes.txt")
    with pytest.raises(Unavailable, match="look at the folder"):
        SqliteMetadata(tmp_path / "nowhere" / "metadata.db")


def test_the_check_names_a_damage(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    metadata = SqliteMetadata(path)
    for n in range(50):
        metadata.transact([Put(Key("p", f"{n:03}"), {"v": "x" * 500}, ABSENT)])
    assert metadata.check() == []
    metadata.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 3 + 64] = b"\xff" * 64
    path.write_bytes(content)

    damaged = SqliteMetadata(path)
    try:
        found = damaged.check()
    except Unavailable as error:
        found = [str(error)]

    assert found
    damaged.close()


def test_many_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from adapters.metadata.sqlite import SqliteMetadata; from lamplighter.ports import *\n"
        "sys.stdin.readline()\n"
        "SqliteMetadata(sys.argv[1]).transact([Put(Key('p', str(os.getpid())), {}, ABSENT)])"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / "metadata.db"], cwd=ROOT, stdin=subprocess.PIPE)
        for _ in range(6)
    ]

    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.close()

    assert [child.wait() for child in children] == [0] * 6
    metadata = SqliteMetadata(tmp_path / "metadata.db")
    assert {record.key.sort for record in metadata.query("p").records} == {str(child.pid) for child in children}
    metadata.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    metadata = SqliteMetadata(tmp_path / "metadata.db")
    metadata.close()
    metadata.close()

    with pytest.raises(Unavailable, match="is closed"):
        metadata.get(Key("p", "one"))
