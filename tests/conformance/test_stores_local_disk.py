"""What the stores that this project serves itself promise beyond the port: signatures, races, durability, full disks."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pytest

from adapters.stores.local_disk import LocalDiskStore, Upload
from adapters.stores.memory import MemoryStore
from adapters.stores.signing import SignedCall
from lamplighter.errors import AlreadyWritten, Forbidden, Invalid, NotFound, Unavailable
from lamplighter.ports import Store, Target

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

INTERRUPTED = """
import sys
from datetime import UTC, datetime
from adapters.stores.local_disk import LocalDiskStore
store = LocalDiskStore(sys.argv[1], base_url="http://x", signing_key=b"0" * 16, clock=lambda: datetime.now(UTC))
upload = store.writer("a/torn", 2_000_000)
upload.write(b"x" * 1_000_000)
print("half", flush=True)
sys.stdin.read()
"""

FULL_DISK = """
import io, resource, sys
from datetime import UTC, datetime
from adapters.stores.local_disk import LocalDiskStore
from lamplighter.errors import Unavailable
store = LocalDiskStore(sys.argv[1], base_url="http://x", signing_key=b"0" * 16, clock=lambda: datetime.now(UTC))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    store.put("a/large", io.BytesIO(b"x" * 200_000), size=200_000)
except Unavailable as error:
    print(error)
print(list(store.list("")))
"""


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk(tmp_path: Path, clock: Clock) -> LocalDiskStore:
    return open_store(tmp_path / "store", clock)


@pytest.fixture(params=["memory", "local_disk"])
def store(request: pytest.FixtureRequest, disk: LocalDiskStore) -> Store:
    return MemoryStore() if request.param == "memory" else disk


def open_store(root: Path, clock: Callable[[], datetime]) -> LocalDiskStore:
    return LocalDiskStore(root, base_url="http://door:1/", signing_key=b"a key of the test", clock=clock)


def put(store: Store, key: str, content: bytes = b"content") -> None:
    store.put(key, io.BytesIO(content), size=len(content))


def parts_of(target: Target) -> tuple[str, dict[str, str]]:
    url = urlsplit(target.url)
    return unquote(url.path.removeprefix("/objects/")), dict(parse_qsl(url.query, keep_blank_values=True))


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- Signatures -----------------------------------------------------------------------------------------------------


def test_an_untouched_url_verifies_as_what_was_signed(disk: LocalDiskStore) -> None:
    for target, expected in (
        (disk.presign_get("a/ä b", seconds=60), SignedCall("GET", "a/ä b")),
        (disk.presign_get("a", seconds=60, filename="ö&=.txt"), SignedCall("GET", "a", filename="ö&=.txt")),
        (disk.presign_get("a", seconds=60, filename=""), SignedCall("GET", "a", filename="")),
        (disk.presign_put("a/b", seconds=60, size=0), SignedCall("PUT", "a/b", size=0)),
    ):
        assert target.url.startswith("http://door:1/objects/a")
        assert disk.verify(expected.method, *parts_of(target), NOW) == expected


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("method", "GET"),
        ("expires", "99999999999"),
        ("size", "6"),
        ("size", "05"),
        ("size", "-5"),
        ("size", "٥"),
        ("size", None),
        ("expires", None),
        ("expires", "soon"),
        ("method", None),
        ("signature", "0" * 64),
        ("signature", "é"),
        ("signature", None),
        ("filename", "x"),
        ("more", "x"),
    ],
)
def test_changing_adding_or_leaving_out_any_part_of_a_signed_put_is_refused(
    disk: LocalDiskStore, part: str, value: str | None
) -> None:
    key, query = parts_of(disk.presign_put("a/b", seconds=60, size=5))
    changed = {name: text for name, text in (query | {part: value}).items() if text is not None}

    with pytest.raises(Forbidden):
        disk.verify("PUT", key, changed, NOW)


@pytest.mark.parametrize("changed", [{"filename": "b.txt"}, {"filename": ""}, {"size": "1"}, {"method": "PUT"}])
def test_changing_any_part_of_a_signed_get_is_refused(disk: LocalDiskStore, changed: dict[str, str]) -> None:
    key, query = parts_of(disk.presign_get("a/b", seconds=60, filename="a.txt"))

    with pytest.raises(Forbidden):
        disk.verify("GET", key, query | changed, NOW)


@pytest.mark.parametrize(
    ("method", "key"),
    [("PUT", "a/c"), ("PUT", "a/b/"), ("PUT", "a//b"), ("GET", "a/b"), ("HEAD", "a/b"), ("put", "a/b")],
)
def test_a_signed_put_is_good_for_its_method_and_key_alone(disk: LocalDiskStore, method: str, key: str) -> None:
    _, query = parts_of(disk.presign_put("a/b", seconds=60, size=5))

    with pytest.raises(Forbidden):
        disk.verify(method, key, query, NOW)
    with pytest.raises(Forbidden):
        disk.verify(method, key, query | {"method": method}, NOW)


def test_a_url_of_another_key_is_refused(tmp_path: Path, disk: LocalDiskStore, clock: Clock) -> None:
    other = LocalDiskStore(tmp_path, base_url="http://door:1", signing_key=b"a key of another", clock=clock)

    with pytest.raises(Forbidden):
        disk.verify("GET", *parts_of(other.presign_get("a", seconds=60)), NOW)


def test_a_url_is_good_for_its_whole_life_and_not_a_second_more(disk: LocalDiskStore) -> None:
    key, query = parts_of(disk.presign_get("a", seconds=60))

    assert disk.verify("GET", key, query, NOW + timedelta(seconds=60)) == SignedCall("GET", "a")
    with pytest.raises(Forbidden, match="expired"):
        disk.verify("GET", key, query, NOW + timedelta(seconds=61))


def test_a_file_name_cannot_add_a_header() -> None:
    header = SignedCall("GET", "a", filename='a"\r\nSet-Cookie: b; \\ ü/€').content_disposition

    assert header is not None
    assert header.isascii()
    assert header.isprintable()
    assert header.startswith("attachment; filename=\"a___Set-Cookie: b; _ ___\"; filename*=UTF-8''a%22%0D%0ASet-Cookie")


def test_a_short_signing_key_is_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(Invalid):
        LocalDiskStore(tmp_path, base_url="http://x", signing_key=b"short", clock=clock)


def test_the_base_url_may_be_known_only_later(tmp_path: Path, clock: Clock) -> None:
    urls: list[str] = []
    store = LocalDiskStore(tmp_path, base_url=lambda: urls[-1], signing_key=b"0" * 16, clock=clock)

    urls.append("https://later")

    assert store.presign_get("a", seconds=1).url.startswith("https://later/objects/a?method=GET&expires=")


def test_a_memory_target_that_was_changed_or_has_expired_is_refused(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    put(store, "a")
    target = store.presign_get("a", seconds=60)
    upload = store.presign_put("b", seconds=60, size=3)

    for changed in (Target("PUT", target.url), Target("GET", target.url + "x"), Target("GET", upload.url)):
        with pytest.raises(Forbidden):
            store.call(changed, b"abc")
    with pytest.raises(Invalid):
        store.call(upload, b"abcd")
    assert store.call(target) == b"content"

    clock.now += timedelta(seconds=61)

    with pytest.raises(Forbidden):
        store.call(target)


# --- Races ----------------------------------------------------------------------------------------------------------


def test_of_many_who_write_one_key_exactly_one_wins_and_its_content_stays(store: Store) -> None:
    barrier = threading.Barrier(8)

    def write(number: int) -> bool:
        content = bytes([number]) * 100_000
        barrier.wait()
        try:
            put(store, "contested", content)
        except AlreadyWritten:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))

    assert won.count(True) == 1
    assert b"".join(store.get("contested")) == bytes([won.index(True)]) * 100_000


def test_writers_and_deleters_in_one_folder_do_not_disturb_each_other(store: Store) -> None:
    def churn(number: int) -> None:
        for _ in range(60):
            put(store, f"a/b/{number}")
            store.delete(f"a/b/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))

    assert list(store.list("")) == []


def test_one_key_cannot_be_the_folder_of_another(store: Store) -> None:
    put(store, "a/b")

    with pytest.raises(Invalid, match="folder"):
        put(store, "a")
    with pytest.raises(Invalid, match="below"):
        put(store, "a/b/c/d")

    assert [info.key for info in store.list("")] == ["a/b"]


# --- Uploads --------------------------------------------------------------------------------------------------------


def test_an_upload_is_seen_only_when_it_is_committed(disk: LocalDiskStore, tmp_path: Path) -> None:
    upload = disk.writer("a/b", 6)
    upload.write(b"abc")
    upload.write(b"def")
    assert list(disk.list("")) == []

    upload.commit()

    assert b"".join(disk.get("a/b")) == b"abcdef"
    assert files_below(tmp_path / "store" / "incoming") == []


def test_an_upload_that_is_aborted_or_fails_leaves_no_file(disk: LocalDiskStore, tmp_path: Path) -> None:
    def breaks() -> None:
        with disk.writer("a/b", 6) as upload:
            upload.write(b"abc")
            raise ConnectionResetError

    def is_short(upload: Upload) -> None:
        with upload:
            upload.write(b"abc")

    with pytest.raises(ConnectionResetError):
        breaks()
    with pytest.raises(Invalid, match="3 came"):
        is_short(disk.writer("a/b", 6))
    with disk.writer("a/b", 6) as upload:
        upload.write(b"abc")
        upload.abort()
    with pytest.raises(Invalid, match="more came"):
        disk.writer("a/b", 2).write(b"abc")

    assert files_below(tmp_path) == []


def test_an_upload_that_has_ended_takes_nothing_more(disk: LocalDiskStore) -> None:
    upload = disk.writer("a", 1)
    upload.write(b"x")
    upload.commit()
    upload.abort()

    with pytest.raises(ValueError, match="has ended"):
        upload.write(b"y")
    with pytest.raises(ValueError, match="has ended"):
        upload.commit()
    assert disk.head("a").size == 1


def test_an_upload_to_a_taken_key_is_refused_before_a_byte_is_sent_and_again_at_its_end(disk: LocalDiskStore) -> None:
    late = disk.writer("a", 4)
    late.write(b"late")
    put(disk, "a", b"first")

    with pytest.raises(AlreadyWritten):
        disk.writer("a", 1)
    with pytest.raises(AlreadyWritten):
        late.commit()

    assert b"".join(disk.get("a")) == b"first"


def test_a_killed_upload_leaves_nothing_to_see_and_its_file_goes_after_a_day(tmp_path: Path) -> None:
    root = tmp_path / "store"
    command = [sys.executable, "-c", INTERRUPTED, str(root)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
        child.wait()

    store = open_store(root, lambda: datetime.now(UTC))

    assert list(store.list("")) == []
    with pytest.raises(NotFound):
        store.head("a/torn")
    (left,) = files_below(root)
    two_days_ago = datetime.now(UTC).timestamp() - 48 * 3600
    os.utime(left, (two_days_ago, two_days_ago))
    open_store(root, lambda: datetime.now(UTC))
    assert files_below(root) == []


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )

    said, listing = child.stdout.strip().split("\n")

    assert "a/large" in said
    assert "free some space" in said
    assert listing == "[]"
    assert files_below(tmp_path) == []


def test_a_root_that_cannot_be_made_is_explained(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(Unavailable, match="opening the store"):
        open_store(tmp_path / "file" / "store", clock)


def test_deleting_leaves_no_empty_folders(disk: LocalDiskStore, tmp_path: Path) -> None:
    put(disk, "a/b/c/d")
    put(disk, "a/e")

    disk.delete("a/b/c/d")

    assert [path.name for path in (tmp_path / "store" / "objects" / "a").iterdir()] == ["e"]


def test_the_query_of_a_signed_url_survives_being_parsed_and_written_again(disk: LocalDiskStore) -> None:
    key, query = parts_of(disk.presign_get("a", seconds=60, filename="a+b c&d=%41.txt"))

    again = dict(parse_qsl(urlencode(query)))

    assert disk.verify("GET", key, again, NOW).filename == "a+b c&d=%41.txt"
