"""What a run leaves in its outputs directory reaches the store: all of it, once, as it was."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from hashlib import md5, sha1, sha256
from pathlib import Path
from typing import Any

import pytest
from lamplighter_worker.outputs import Outputs
from lamplighter_worker.transfer import Transfer

from lamplighter.contract.job import Call, Epoch
from lamplighter.contract.report import NewOutput, OutputTarget
from lamplighter.errors import Invalid, LamplighterError, StaleEpoch, TooLarge, Unavailable
from tests.worker_files.server import QUICK, Answer, Server

EPOCH = Epoch(1, 3)


class Control:
    """The control plane's side: the same epoch, name and sha256 are the same output, at a key of their own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.lock = threading.Lock()
        self.announced: dict[str, NewOutput] = {}
        self.stored_ids: set[str] = set()
        self.calls = 0
        self.faults: list[LamplighterError] = []
        self.refused: set[str] = set()
        self.refusal: LamplighterError = Invalid.because("it is not wanted")

    def announce(self, new: NewOutput) -> OutputTarget:
        with self.lock:
            self.calls += 1
            if self.faults:
                raise self.faults.pop(0)
            if new.name in self.refused:
                raise self.refusal
            output_id = self.key(new.name, new.sha256)
            self.announced[output_id] = new
            return OutputTarget(output_id, None if output_id in self.stored_ids else self.server.put(f"/{output_id}"))

    def stored(self, output_id: str) -> None:
        assert f"/{output_id}" in self.server.files, "it was said to be stored before it was"
        with self.lock:
            self.stored_ids.add(output_id)

    def key(self, name: str, digest: str) -> str:
        return sha256(f"{EPOCH} {name} {digest}".encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def content(self, name: str) -> list[bytes]:
        """What is stored under `name`; proves on the way that all of it is what was announced."""
        found = []
        for output_id in self.stored_ids:
            new, content = self.announced[output_id], self.server.files[f"/{output_id}"]
            assert (new.size, new.sha256) == (len(content), sha256(content).hexdigest())
            if new.name == name:
                found.append(content)
        return sorted(found)

    def names(self) -> list[str]:
        return sorted(self.announced[output_id].name for output_id in self.stored_ids)


class World:
    def __init__(self, tmp_path: Path, server: Server) -> None:
        self.control = Control(server)
        self.directory = tmp_path / "run/outputs"
        self.staging = tmp_path / "staging"
        self.said: list[str] = []
        self.directory.mkdir(parents=True)

    def outputs(self, **changes: Any) -> Outputs:
        options: dict[str, Any] = {
            "announce": self.control.announce,
            "stored": self.control.stored,
            "epoch": EPOCH,
            "say": self.said.append,
            "transfer": Transfer(patience=QUICK),
        }
        return Outputs(self.directory, self.staging, **{**options, **changes})

    def write(self, name: str, content: str | bytes = b"content", *, live: bool = False) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if live:
            path.chmod(0o444)
        return path


@pytest.fixture
def world(tmp_path: Path, server: Server) -> World:
    return World(tmp_path, server)


def until(question: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not question():
        assert time.monotonic() < end, "it did not come to pass within a minute"
        time.sleep(0.01)


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


def test_a_stale_epoch_ends_it(world: World) -> None:
    world.write("live", live=True)
    world.control.faults = [StaleEpoch("another one")] * 2
    outputs = world.outputs()

    with pytest.raises(StaleEpoch):
        until(lambda: outputs.sweep_live() is not None)


def test_a_stale_epoch_ends_the_finish(world: World) -> None:
    world.write("a")
    world.control.faults = [StaleEpoch("another one")]

    with pytest.raises(StaleEpoch):
        world.outputs().finish()


def test_a_store_that_is_away_costs_no_output(world: World, server: Server) -> None:
    world.write("live", live=True)
    world.write("late")
    outputs = world.outputs()
    live = sha256(b"content").hexdigest()
    for name in ("live", "late"):
        server.answers[f"/{world.control.key(name, live)}"].extend(Answer(503) for _ in range(QUICK.attempts))
    outputs.sweep_live()

    with pytest.raises(Unavailable):
        outputs.finish()

    ids, _ = outputs.finish()
    assert len(ids) == 2
    assert world.control.names() == ["late", "live"]


def test_an_expired_upload_gets_a_fresh_call(world: World, server: Server) -> None:
    world.write("a")
    server.answers[f"/{world.control.key('a', sha256(b'content').hexdigest())}"].append(Answer(403))

    world.outputs().finish()

    assert world.control.calls == 2
    assert world.control.names() == ["a"]


def test_what_is_stored_already_is_not_sent_again(world: World, server: Server) -> None:
    world.write("a")
    world.outputs().finish()
    shutil.rmtree(world.staging)

    ids, _ = world.outputs().finish()

    assert len(ids) == 1
    assert sum(request.method == "PUT" for request in server.seen) == 1


def test_a_new_agent_goes_on_and_reports_all_once(world: World, server: Server) -> None:
    world.write("live", b"live", live=True)
    first = world.outputs()
    first.sweep_live()
    until(lambda: world.control.names() == ["live"])
    until(lambda: list((world.staging / "live").iterdir()) == [])
    world.write("late", b"late")

    ids, _ = world.outputs().finish()
    again, _ = world.outputs().finish()

    assert world.control.names() == ["late", "live"]
    assert set(ids) == set(again) == world.control.stored_ids
    assert sum(request.method == "PUT" for request in server.seen) == 2


def test_a_journal_torn_by_a_crash_is_read_as_far_as_it_goes(world: World) -> None:
    world.write("a", b"a")
    world.outputs().finish()
    with (world.staging / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"epoch": "1.3", "na')
    world.write("b", b"b")

    assert len(world.outputs().finish()[0]) == 2
    assert len(world.outputs().finish()[0]) == 2


def test_another_epoch_uploads_anew(world: World) -> None:
    world.write("a", b"a")
    world.outputs().finish()

    world.outputs(epoch=Epoch(1, 4)).finish()

    assert world.control.calls == 2


def test_a_rewritten_file_with_old_size_and_time_is_not_taken_for_the_old_one(world: World) -> None:
    path = world.write("a", b"old")
    world.outputs().finish()
    before = path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    world.outputs().finish()

    assert world.control.content("a") == [b"new", b"old"]


def test_closing_leaves_what_was_taken_to_the_next_agent(world: World, server: Server) -> None:
    world.write("a", live=True)
    world.control.faults = [Unavailable("away")]
    outputs = world.outputs()
    outputs.sweep_live()
    until(lambda: world.control.calls == 1)

    outputs.close()

    assert len(list((world.staging / "live").glob("*.data"))) == 1
    assert len(world.outputs().finish()[0]) == 1


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


def test_an_agent_killed_anywhere_loses_and_doubles_nothing(world: World, server: Server, tmp_path: Path) -> None:
    """Agents are killed at their k-th effect, for many k; at last one finishes. Each file is stored once, as it was."""
    for n in range(6):
        world.write(f"live{n}", b"live%d" % n, live=True)
        world.write(f"late{n}", b"late%d" % n)
    control = Remote(world.control)
    code = -1
    kills = 0
    for k in range(2, 400, 3):
        code = control.run_agent(k, world)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    control.close()

    ids, _ = world.outputs().finish()

    assert kills >= 3
    assert code == 0
    assert sorted(world.control.names()) == sorted([f"live{n}" for n in range(6)] + [f"late{n}" for n in range(6)])
    assert set(ids) == world.control.stored_ids
    assert all(
        world.control.content(f"{w}{n}") == [b"%s%d" % (w.encode(), n)] for w in ("live", "late") for n in range(6)
    )


class Remote:
    """Lends a `Control` to agents in other processes, by a line of JSON per call."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def run_agent(self, k: int, world: World) -> int:
        port = self._socket.getsockname()[1]
        arguments = [str(a) for a in (port, k, world.directory, world.staging)]
        root = Path(__file__).parents[2]
        return subprocess.run([sys.executable, "-c", AGENT, *arguments], cwd=root, check=False).returncode

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        import json

        from lamplighter.contract.wire import decode, encode

        with connection, connection.makefile("rw") as file:
            try:
                asked = json.loads(file.readline() or "null")
                if isinstance(asked, str):
                    self._control.stored(asked)
                    answer: Any = None
                elif asked is not None:
                    answer = encode(self._control.announce(decode(NewOutput, asked)))
                file.write(json.dumps(answer) + "\n")
                file.flush()
            except (OSError, ValueError, UnboundLocalError):
                return


AGENT = """
import json, os, signal, socket, sys, threading
from pathlib import Path
from lamplighter.contract.job import Epoch
from lamplighter.contract.report import OutputTarget
from lamplighter.contract.wire import decode, encode
from lamplighter_worker.outputs import Outputs
port, left = int(sys.argv[1]), int(sys.argv[2])

def ask(value):
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rw") as file:
        file.write(json.dumps(value) + "\\n")
        file.flush()
        return json.loads(file.readline())

outputs = Outputs(
    Path(sys.argv[3]), Path(sys.argv[4]), announce=lambda new: decode(OutputTarget, ask(encode(new))),
    stored=ask, epoch=Epoch(1, 3), say=print,
)

def die(event, arguments):
    global left
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.remove", "socket.connect", "os.chmod"):
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
outputs.sweep_live()
outputs.finish()
"""


def test_a_call_without_a_url_is_enough(world: World) -> None:
    world.write("a")

    ids, _ = world.outputs(announce=lambda new: OutputTarget("known", None), stored=lambda output_id: None).finish()

    assert ids == ("known",)


def test_an_upload_that_is_refused_is_tried_again_later_not_dropped(world: World) -> None:
    world.write("a")
    nowhere = Call("http://127.0.0.1:1/a", "PUT")

    with pytest.raises(Unavailable, match="1 outputs could not be uploaded"):
        world.outputs(announce=lambda new: OutputTarget("a", nowhere)).finish()

    assert len(world.outputs().finish()[0]) == 1
