"""What a run leaves in its outputs directory reaches the store: all of it, once, as it was."""

from __future__ import annotations

import os
import shutil
import socket
import tracemalloc
from hashlib import md5, sha1
from pathlib import Path
from typing import Any

import pytest

from lamplighter.contract.report import NewOutput, OutputTarget
from lamplighter.errors import TooLarge
from tests.worker_files.outputs_world import EPOCH, World, until
from tests.worker_files.server import Server


def test_all_files_are_uploaded_at_the_end(world: World) -> None:
    world.write("model.bin", b"weights")
    world.write("deep/down/ä b.txt", b"")

    ids, metadata = world.outputs().finish()

    assert world.control.names() == ["deep/down/ä b.txt", "model.bin"]
    assert set(ids) == world.control.stored_ids
    assert metadata == {}
    new = next(n for n in world.control.announced.values() if n.name == "model.bin")
    assert (new.epoch, new.size, new.file_mtime) == (EPOCH, 7, (world.directory / "model.bin").stat().st_mtime)
    assert (new.md5, new.sha1) == (md5(b"weights").hexdigest(), sha1(b"weights").hexdigest())
    assert world.control.content("model.bin") == [b"weights"]
    assert world.said == []


def test_no_outputs_are_no_error(world: World) -> None:
    assert world.outputs().finish() == ((), {})

    world.directory.rmdir()
    assert world.outputs().finish() == ((), {})


def test_a_read_only_file_leaves_at_once_and_writable_ones_stay(world: World) -> None:
    world.write("live.bin", b"live", live=True)
    world.write("deep/live.bin", b"deep", live=True)
    world.write("later.bin", b"later")
    outputs = world.outputs()

    outputs.sweep_live()

    assert not (world.directory / "live.bin").exists()
    assert (world.directory / "later.bin").exists()
    until(lambda: world.control.names() == ["deep/live.bin", "live.bin"])
    ids, _ = outputs.finish()
    assert len(ids) == 3
    assert world.control.content("later.bin") == [b"later"]
    assert list((world.staging / "live").iterdir()) == []


def test_one_name_may_be_uploaded_many_times(world: World) -> None:
    outputs = world.outputs()
    for content in ("one", "two"):
        path = world.write("checkpoint", content, live=True)
        until(lambda path=path: (outputs.sweep_live(), not path.exists())[1])
    world.write("checkpoint", "three")

    ids, _ = outputs.finish()

    assert len(ids) == 3
    assert world.control.content("checkpoint") == [b"one", b"three", b"two"]


def test_a_file_that_changes_while_it_is_sent_is_sent_as_it_is_in_the_end(world: World, server: Server) -> None:
    path = world.write("a", b"first" * 100_000)
    announce = world.control.announce

    def change_once(new: NewOutput) -> OutputTarget:
        if world.control.calls == 0:
            path.write_bytes(b"other" * 100_000)
        return announce(new)

    ids, _ = world.outputs(announce=change_once).finish()

    assert world.control.content("a") == [b"other" * 100_000]
    assert len(ids) == 1


def test_a_file_that_never_holds_still_is_uploaded_as_it_was_at_one_moment(world: World) -> None:
    path = world.write("a", b"0")
    announce = world.control.announce

    def change(new: NewOutput) -> OutputTarget:
        path.write_bytes(b"%d" % world.control.calls * 10)
        return announce(new)

    ids, _ = world.outputs(announce=change).finish()

    assert len(ids) == 1
    assert len(world.control.content("a")) == 1
    assert any("kept changing" in text for text in world.said)


def test_sidecars_describe_files_and_are_none(world: World) -> None:
    world.write("a.bin")
    world.write("a.bin.metadata.json", '{"valohai.tags": ["prod"], "accuracy": 0.9}')
    world.write("deep/b.bin")
    world.write("deep/b.bin.metadata.json", '{"b": 1}')
    world.write(
        "valohai.metadata.jsonl",
        '{"file": "a.bin", "metadata": {"accuracy": 0.1, "from": "lines"}}\n\n'
        '{"file": "deep/b.bin", "metadata": {"c": 2}}\n{"file": "deep/b.bin", "metadata": {"c": 3}}',
    )

    _, metadata = world.outputs().finish()

    expected = {
        "a.bin": {"valohai.tags": ["prod"], "accuracy": 0.9, "from": "lines"},
        "deep/b.bin": {"b": 1, "c": 3},
    }
    assert metadata == expected
    assert {n.name: n.metadata for n in world.control.announced.values()} == expected
    assert world.said == []


def test_a_sidecar_is_read_at_both_moments(world: World) -> None:
    world.write("a.bin", live=True)
    world.write("a.bin.metadata.json", '{"early": true}')
    world.write("valohai.metadata.jsonl", '{"file": "a.bin", "metadata": {"line": 1}}\n{"file": "a.bin", "meta')
    outputs = world.outputs()
    outputs.sweep_live()
    until(lambda: world.control.names() == ["a.bin"])
    with (world.directory / "valohai.metadata.jsonl").open("a") as lines:
        lines.write('data": {"line": 2}}\n')
    world.write("a.bin.metadata.json", '{"late": true}')

    _, metadata = outputs.finish()

    assert next(iter(world.control.announced.values())).metadata == {"line": 1, "early": True}
    assert metadata == {"a.bin": {"line": 2, "late": True}}
    assert world.said == []


def test_a_sidecar_without_its_file_is_said_at_the_end(world: World) -> None:
    world.write("early", live=True)
    world.write("early.metadata.json", "{}")
    world.write("lonely.metadata.json", "{}")
    world.write("deep/directory/a")
    world.write("deep/directory.metadata.json", "{}")
    (world.directory / "link").symlink_to("nowhere")
    world.write("link.metadata.json", "{}")
    outputs = world.outputs()
    outputs.sweep_live()
    until(lambda: world.control.names() == ["early"])
    assert world.said == []

    outputs.finish()
    outputs.finish()

    assert sorted(text for text in world.said if "metadata.json" in text) == [
        "deep/directory.metadata.json was ignored: there is no file deep/directory that it could describe",
        "lonely.metadata.json was ignored: there is no file lonely that it could describe",
    ]


def test_names_that_cannot_be_are_skipped_and_said(world: World) -> None:
    world.write("good")
    world.write("bad\nname")
    world.write("/".join(["d" * 200] * 6))
    descriptor = os.open(os.fsencode(world.directory) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    (world.directory / "bad\x85").mkdir()
    outputs = world.outputs()

    outputs.sweep_live()
    outputs.finish()

    assert world.control.names() == ["good"]
    assert len(world.said) >= 4
    assert all(text.isprintable() and text.isascii() for text in world.said)


def test_a_flood_of_complaints_is_summed_up(world: World) -> None:
    for n in range(150):
        world.write(f"bad\n{n}")

    world.outputs().finish()

    assert len(world.said) == 101
    assert world.said[-1].startswith("50 more")


def test_links_inside_become_copies_and_others_are_said(world: World, tmp_path: Path) -> None:
    world.write("real/a", b"content")
    (tmp_path / "secret").write_text("s3cret")
    links = {
        "inside": "real/a",
        "absolute": str(world.directory / "real/a"),
        "as-the-run-sees-it": "/valohai/outputs/real/a",
        "outside": str(tmp_path / "secret"),
        "climbing": "../../secret",
        "climbing-visible": "/valohai/outputs/../../secret",
        "broken": "nowhere",
        "loop": "loop",
        "directory": "real",
        "up": "..",
    }
    for name, target in links.items():
        (world.directory / name).symlink_to(target)

    world.outputs().finish()

    assert world.control.names() == ["absolute", "as-the-run-sees-it", "inside", "real/a"]
    assert world.control.content("inside") == [b"content"]
    assert {text.split(" ")[0] for text in world.said} == {
        *("outside", "climbing", "climbing-visible", "broken", "loop", "directory", "up")
    }


def test_what_is_no_file_is_said_and_does_not_hold_us_up(world: World) -> None:
    os.mkfifo(world.directory / "pipe")
    os.mkfifo(world.directory / "a.metadata.json")
    world.write("a")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(world.directory / "socket"))

        world.outputs().finish()

    assert world.control.names() == ["a"]
    assert sorted(text.split(" ")[0] for text in world.said) == ["a.metadata.json", "pipe", "socket"]


def test_a_refused_output_is_said_and_costs_no_other(world: World) -> None:
    world.write("bad", live=True)
    world.write("worse")
    world.write("good")
    world.control.refused = {"bad", "worse"}
    outputs = world.outputs()
    outputs.sweep_live()

    ids, _ = outputs.finish()

    assert world.control.names() == ["good"]
    assert len(ids) == 1
    assert sorted(text.split(" ")[0] for text in world.said) == ["bad", "worse"]


@pytest.mark.parametrize("live", [True, False])
def test_an_output_that_no_store_takes_is_known_to_a_later_agent_too(world: World, live: bool) -> None:
    world.write("large", live=live)
    world.write("good")
    world.control.refused = {"large"}
    world.control.refusal = TooLarge("at most 5 GiB")
    first = world.outputs()
    if live:
        until(lambda: first.sweep_live() or bool(first.given_up()))
    first.finish()

    later = world.outputs()
    later.finish()

    assert first.given_up() == later.given_up() == {"large": "at most 5 GiB"}
    assert world.control.names() == ["good"]


def test_what_is_stored_already_is_not_sent_again(world: World, server: Server) -> None:
    world.write("a")
    world.outputs().finish()
    shutil.rmtree(world.staging)

    ids, _ = world.outputs().finish()

    assert len(ids) == 1
    assert sum(request.method == "PUT" for request in server.seen) == 1


def test_a_rewritten_file_with_old_size_and_time_is_not_taken_for_the_old_one(world: World) -> None:
    path = world.write("a", b"old")
    world.outputs().finish()
    before = path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    world.outputs().finish()

    assert world.control.content("a") == [b"new", b"old"]


def test_thousands_of_files_need_little_memory(world: World, server: Server) -> None:
    block = os.urandom(100_000)
    for n in range(2000):
        world.write(f"{n % 7}/{n}", b"%d " % n + block)
    tracemalloc.start()
    server.before_put = lambda path: None

    class Forgetful(dict[str, bytes]):
        def __setitem__(self, key: str, value: bytes) -> None:
            super().__setitem__(key, b"")

    server.files = Forgetful()
    seen: list[Any] = server.seen
    outputs = world.outputs(stored=lambda output_id: (world.control.stored_ids.add(output_id), seen.clear())[1])

    ids, _ = outputs.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(set(ids)) == 2000
    assert len(world.control.stored_ids) == 2000
    assert peak < 50_000_000


def test_a_call_without_a_url_is_enough(world: World) -> None:
    world.write("a")

    ids, _ = world.outputs(announce=lambda new: OutputTarget("known", None), stored=lambda output_id: None).finish()

    assert ids == ("known",)
