"""A run's outputs directory and the control plane that hears of it: shared by the tests of outputs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from lamplighter_worker.outputs import Outputs
from lamplighter_worker.transfer import Transfer

from lamplighter.contract.job import Epoch
from lamplighter.contract.report import NewOutput, OutputTarget
from lamplighter.errors import Invalid, LamplighterError
from tests.worker_files.server import QUICK, Server

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


def until(question: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not question():
        assert time.monotonic() < end, "it did not come to pass within a minute"
        time.sleep(0.01)
