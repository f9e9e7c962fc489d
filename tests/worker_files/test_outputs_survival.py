"""Outputs outlive the agent that sends them and the store that is away: nothing is lost, and nothing is doubled."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lamplighter.contract.job import Call, Epoch
from lamplighter.contract.report import NewOutput, OutputTarget
from lamplighter.errors import StaleEpoch, Unavailable
from tests.worker_files.outputs_world import Control, World, until
from tests.worker_files.server import QUICK, Answer, Server


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


def test_an_upload_that_is_refused_is_tried_again_later_not_dropped(world: World) -> None:
    world.write("a")
    nowhere = Call("http://127.0.0.1:1/a", "PUT")

    with pytest.raises(Unavailable, match="1 outputs could not be uploaded"):
        world.outputs(announce=lambda new: OutputTarget("a", nowhere)).finish()

    assert len(world.outputs().finish()[0]) == 1


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


def test_closing_leaves_what_was_taken_to_the_next_agent(world: World, server: Server) -> None:
    world.write("a", live=True)
    world.control.faults = [Unavailable("away")]
    outputs = world.outputs()
    outputs.sweep_live()
    until(lambda: world.control.calls == 1)

    outputs.close()

    assert len(list((world.staging / "live").glob("*.data"))) == 1
    assert len(world.outputs().finish()[0]) == 1


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
