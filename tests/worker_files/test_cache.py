"""The cache gives back what was put in, or nothing; it stays small, and runs cannot spoil it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from lamplighter_worker.cache import Cache
from lamplighter_worker.transfer import Digest, Hasher

MIB = 1024 * 1024


def digest_of(content: bytes) -> Digest:
    hasher = Hasher()
    hasher.update(content)
    return hasher.digest()


def put(cache: Cache, key: str, content: bytes, tmp_path: Path) -> Digest:
    path = tmp_path / "source"
    path.write_bytes(content)
    cache.put(key, path, digest_of(content))
    return digest_of(content)


def get(cache: Cache, key: str, tmp_path: Path) -> bytes | None:
    path = tmp_path / "target"
    digest = cache.get(key, path)
    if digest is None:
        assert not path.exists()
        return None
    assert digest == digest_of(path.read_bytes())
    return path.read_bytes()


def size_of(directory: Path) -> int:
    return sum(p.stat().st_size for p in directory.iterdir() if p.suffix != ".json")


def test_what_was_put_is_found_by_its_key_also_by_the_next_agent(tmp_path: Path) -> None:
    put(Cache(tmp_path / "cache", 1), "s3://bucket/../../a", b"content", tmp_path)

    cache = Cache(tmp_path / "cache", 1)

    assert get(cache, "s3://bucket/../../a", tmp_path) == b"content"
    assert get(cache, "other", tmp_path) is None


def test_a_run_that_changes_its_copy_does_not_change_the_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    put(cache, "a", b"content", tmp_path)
    get(cache, "a", tmp_path)

    with (tmp_path / "target").open("r+b") as file:
        file.write(b"spoiled")
    (tmp_path / "source").write_bytes(b"spoiled")

    assert get(cache, "a", tmp_path) == b"content"


def test_a_spoiled_entry_is_not_given_out_and_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    put(cache, "a", b"content", tmp_path)
    kept = next(p for p in (tmp_path / "cache").iterdir() if p.suffix != ".json")
    before = kept.stat()
    kept.write_bytes(b"CONTENT")
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert get(cache, "a", tmp_path) is None

    assert list((tmp_path / "cache").iterdir()) == []


def test_the_bound_holds_and_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    for key in ("a", "b", "c"):
        put(cache, key, key.encode() * 300_000, tmp_path)
    get(cache, "a", tmp_path)

    put(cache, "d", b"d" * 300_000, tmp_path)

    assert get(cache, "b", tmp_path) is None
    assert [get(cache, key, tmp_path) is not None for key in "acd"] == [True, True, True]
    assert size_of(tmp_path / "cache") <= MIB


def test_a_file_larger_than_the_cache_is_not_kept_and_costs_no_other(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    put(cache, "a", b"a", tmp_path)

    put(cache, "huge", b"x" * (MIB + 1), tmp_path)

    assert get(cache, "huge", tmp_path) is None
    assert get(cache, "a", tmp_path) == b"a"


def test_a_smaller_bound_holds_from_the_start(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 3)
    for key in ("a", "b", "c"):
        put(cache, key, key.encode() * MIB, tmp_path)

    Cache(tmp_path / "cache", 1)

    assert size_of(tmp_path / "cache") <= MIB


def test_a_new_file_under_an_old_key_replaces_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    put(cache, "a", b"old", tmp_path)

    put(cache, "a", b"newer", tmp_path)

    assert get(cache, "a", tmp_path) == b"newer"


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    put(Cache(tmp_path / "cache", 1), "a", b"content", tmp_path)
    (tmp_path / "cache/draft-1").write_bytes(b"torn")
    (tmp_path / "cache" / ("0" * 64)).write_bytes(b"without a note")
    (tmp_path / "cache" / ("1" * 64 + ".json")).write_text("{}")

    cache = Cache(tmp_path / "cache", 1)

    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert get(cache, "a", tmp_path) == b"content"


def test_an_unreadable_note_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    for text in ("", "[]", "{}", '{"size": "x"}'):
        put(cache, "a", b"content", tmp_path)
        next((tmp_path / "cache").glob("*.json")).write_text(text)

        assert get(cache, "a", tmp_path) is None


def test_a_source_that_is_not_what_it_should_be_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    (tmp_path / "source").write_bytes(b"other")

    cache.put("a", tmp_path / "source", digest_of(b"content"))

    assert get(cache, "a", tmp_path) is None
    assert list((tmp_path / "cache").iterdir()) == []


def test_many_threads_may_use_it_at_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    wrong: list[str] = []

    def work(number: int) -> None:
        own = tmp_path / str(number)
        own.mkdir()
        for turn in range(30):
            key = str((turn * 7 + number) % 5)
            put(cache, key, key.encode() * 300_000, own)
            found = get(cache, key, own)
            if found not in (None, key.encode() * 300_000):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert size_of(tmp_path / "cache") <= MIB
