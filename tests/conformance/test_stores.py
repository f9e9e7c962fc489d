"""Every promise of the Store port, asked of every adapter; signed URLs are used over real HTTP."""

from __future__ import annotations

import hashlib
import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.stores.memory import MemoryStore
from lamplighter.errors import AlreadyWritten, Invalid, NotFound
from lamplighter.ports import ObjectInfo, Store
from tests.conformance.store_places import MIB, Answer, Place, Stream, body, local_disk, s3_store, wait_for_port
from tests.faults import FaultPlan, FaultStore


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3-compatible server in a process of its own."""
    log = tmp_path_factory.mktemp("s3") / "server.log"
    for _ in range(5):
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with log.open("wb") as out:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            server = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            if wait_for_port(server, port):
                yield f"http://127.0.0.1:{port}"
                return
        finally:
            server.terminate()
            server.wait()
    pytest.fail(f"the S3 server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(params=["memory", "memory behind a fault plan", "local_disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        memory = MemoryStore()
        yield Place(memory, memory)
    elif request.param == "memory behind a fault plan":
        memory = MemoryStore()
        yield Place(FaultStore(memory, FaultPlan()), memory)
    elif request.param == "local_disk":
        with local_disk(tmp_path / "store") as store:
            yield Place(store)
    else:
        yield Place(s3_store(request.getfixturevalue("s3_url"), prefix="some/where"))


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


def put(store: Store, key: str, content: bytes = b"content") -> None:
    store.put(key, io.BytesIO(content), size=len(content))


def read(store: Store, key: str, **how: Any) -> bytes:
    return b"".join(store.get(key, **how))


def keys(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


# --- Objects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 41])
def test_an_object_comes_back_as_it_was_put(store: Store, content: bytes) -> None:
    put(store, "a/b/c.bin", content)

    assert read(store, "a/b/c.bin") == content
    assert store.head("a/b/c.bin") == ObjectInfo("a/b/c.bin", len(content))


@pytest.mark.parametrize(
    "key", ["a b+c&d=e?f#g%20.txt", "ä/😀/..notes", "-rf", "~/x", "a\\b", "C:x", "k" * 255, "d/" * 500 + "d"]
)
def test_a_key_may_be_any_plain_relative_path(place: Place, key: str) -> None:
    put(place.store, key)

    assert read(place.store, key) == b"content"
    assert keys(place.store) == [key]
    assert place.call(place.store.presign_get(key, seconds=60)).body == b"content"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        "..",
        "../x",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a\x00b",
        "\udcff",
        "é" * 513,
        "x" * 256,
    ],
    ids=repr,
)
def test_a_key_that_is_no_plain_relative_path_is_refused_by_every_call(store: Store, key: str) -> None:
    for call in (
        lambda: put(store, key),
        lambda: read(store, key),
        lambda: store.head(key),
        lambda: store.delete(key),
        lambda: store.presign_get(key, seconds=60),
        lambda: store.presign_put(key, seconds=60, size=1),
    ):
        with pytest.raises(Invalid) as refused:
            call()
        assert "key" in refused.value.fields

    assert keys(store) == []


def test_a_second_put_of_the_same_key_is_refused_and_changes_nothing(store: Store) -> None:
    put(store, "once", b"first")

    with pytest.raises(AlreadyWritten, match="once"):
        put(store, "once", b"second")
    with pytest.raises(AlreadyWritten, match="once"):
        put(store, "once", b"first")

    assert read(store, "once") == b"first"


def test_a_large_second_put_is_refused_too(store: Store) -> None:
    put(store, "once", b"first")

    with pytest.raises(AlreadyWritten):
        store.put("once", body(Stream(9 * MIB)), size=9 * MIB)

    assert read(store, "once") == b"first"


@pytest.mark.parametrize("size", [MIB + 1, 17 * MIB + 5])
def test_a_large_body_is_streamed_in_and_out(store: Store, size: int) -> None:
    stream = Stream(size, portion=700_000)

    store.put("large", body(stream), size=size)

    pieces = [(len(piece), hashlib.sha256(piece).digest()) for piece in store.get("large")]
    assert sum(length for length, _ in pieces) == size
    assert max(length for length, _ in pieces) <= MIB
    assert hashlib.sha256(read(store, "large")).digest() == stream.digest.digest()
    assert store.head("large").size == size


def test_a_large_body_is_not_read_whole_into_memory(tmp_path: Path, s3_url: str) -> None:
    with local_disk(tmp_path) as disk:
        for store in (disk, s3_store(s3_url)):
            stream = Stream(20 * MIB)

            store.put("large", body(stream), size=20 * MIB)

            assert stream.largest_request <= 8 * MIB + 1


@pytest.mark.parametrize("announced", [10, 9 * MIB])
@pytest.mark.parametrize("difference", [-1, 1, -10])
def test_a_body_of_another_size_is_refused_and_leaves_nothing(store: Store, announced: int, difference: int) -> None:
    with pytest.raises(Invalid) as refused:
        store.put("torn", body(Stream(announced + difference)), size=announced)

    assert "size" in refused.value.fields
    assert keys(store) == []
    put(store, "torn", b"whole")
    assert read(store, "torn") == b"whole"


@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_a_body_that_breaks_off_leaves_nothing(store: Store, size: int) -> None:
    with pytest.raises(ConnectionResetError):
        store.put("torn", body(Stream(size, portion=size // 5, fails_at=size // 2)), size=size)

    assert keys(store) == []
    with pytest.raises(NotFound):
        store.head("torn")


def test_a_negative_size_is_refused(store: Store) -> None:
    with pytest.raises(Invalid):
        store.put("x", io.BytesIO(b""), size=-1)
    with pytest.raises(Invalid):
        store.presign_put("x", seconds=60, size=-1)


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (0, 1), (3, 7), (9, 10), (9, 99), (4, None), (10, None), (11, 20), (99, None), (5, 5), (0, 0)],
)
def test_a_range_is_what_a_slice_would_be(store: Store, start: int, end: int | None) -> None:
    put(store, "digits", b"0123456789")

    assert read(store, "digits", start=start, end=end) == b"0123456789"[start:end]


@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 4), (2, None), (0, 0)])
def test_any_range_of_an_empty_object_is_empty(store: Store, start: int, end: int | None) -> None:
    put(store, "empty", b"")

    assert read(store, "empty", start=start, end=end) == b""


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 4)])
def test_a_range_that_makes_no_sense_is_refused(store: Store, start: int, end: int | None) -> None:
    put(store, "digits", b"0123456789")

    with pytest.raises(Invalid):
        store.get("digits", start=start, end=end)


def test_what_is_not_there_is_not_found_by_the_call_itself(store: Store) -> None:
    put(store, "folder/object")

    for key in ("nothing", "folder", "folder/object/below", "folder/objec"):
        with pytest.raises(NotFound, match=key):
            store.get(key)
        with pytest.raises(NotFound, match=key):
            store.get(key, start=2, end=2)
        with pytest.raises(NotFound, match=key):
            store.head(key)


def test_a_deleted_object_is_gone_and_its_key_is_free_again(store: Store) -> None:
    put(store, "a/b/c", b"old")
    put(store, "a/d")

    store.delete("a/b/c")
    store.delete("a/b/c")
    store.delete("a")
    store.delete("a/d/e")
    store.delete("never/was")

    assert keys(store) == ["a/d"]
    put(store, "a/b", b"new")
    assert read(store, "a/b") == b"new"


# --- Listings -------------------------------------------------------------------------------------------------------

NAMES = ["a", "a-b", "a.b/x", "ab/c", "ab/c-d", "ab/c.d", "ab/cd/e", "ab0", "b/1", "b/10", "b/2", "é/x", "😀"]


@pytest.mark.parametrize(
    "prefix", ["", "a", "a.", "ab", "ab/", "ab/c", "ab/cd/", "b/1", "é", "é/", "z", "z/y", "a/", ".", "a/.."]
)
def test_a_listing_has_all_objects_of_the_prefix_in_the_order_of_their_utf8_bytes(store: Store, prefix: str) -> None:
    for number, name in enumerate(reversed(NAMES)):
        put(store, name, b"x" * number)

    found = list(store.list(prefix))

    sizes = {name: number for number, name in enumerate(reversed(NAMES))}
    expected = sorted((name for name in NAMES if name.startswith(prefix)), key=str.encode)
    assert found == [ObjectInfo(name, sizes[name]) for name in expected]


@pytest.mark.parametrize("prefix", ["/", "../", "a//", "a/../", "\x00", "x" * 2000])
def test_a_prefix_that_no_key_can_have_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(Invalid) as refused:
        store.list(prefix)

    assert "prefix" in refused.value.fields


def test_a_listing_goes_beyond_one_page(store: Store) -> None:
    names = [f"many/{number:04}" for number in range(1005)]
    for name in names:
        put(store, name, b"")

    assert keys(store, "many/") == names


# --- Signed URLs ----------------------------------------------------------------------------------------------------


def test_a_signed_get_gives_the_object(place: Place) -> None:
    put(place.store, "a/b c.txt", b"hello")

    target = place.store.presign_get("a/b c.txt", seconds=60)

    assert target.method == "GET"
    assert place.call(target) == Answer(200, b"hello", None)


def test_a_signed_get_with_a_file_name_asks_to_be_saved(place: Place) -> None:
    put(place.store, "x", b"hello")

    answer = place.call(place.store.presign_get("x", seconds=60, filename='ä "b"\r\nSet-Cookie: c.txt'))

    assert answer.status == 200
    assert answer.disposition is not None
    assert answer.disposition.startswith("attachment")


def test_a_signed_get_of_nothing_is_not_found_when_it_is_used(place: Place) -> None:
    assert place.call(place.store.presign_get("nothing", seconds=60)).status == 404


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * (2 * MIB)], ids=len)
def test_a_signed_put_writes_the_object(place: Place, content: bytes) -> None:
    target = place.store.presign_put("a/b c.txt", seconds=60, size=len(content))

    answer = place.call(target, content)

    assert target.method == "PUT"
    assert answer.status == 200
    assert read(place.store, "a/b c.txt") == content


def test_a_signed_put_cannot_replace_an_object(place: Place) -> None:
    target = place.store.presign_put("once", seconds=60, size=5)
    assert place.call(target, b"first").status == 200

    assert place.call(target, b"again").status == 412
    assert place.call(place.store.presign_put("once", seconds=60, size=5), b"again").status == 412

    assert read(place.store, "once") == b"first"
    with pytest.raises(AlreadyWritten):
        put(place.store, "once", b"third")


@pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * 3600 + 1])
def test_a_life_that_a_signed_url_cannot_have_is_refused(store: Store, seconds: int) -> None:
    with pytest.raises(Invalid):
        store.presign_get("x", seconds=seconds)
    with pytest.raises(Invalid):
        store.presign_put("x", seconds=seconds, size=1)
