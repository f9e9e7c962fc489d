"""A world in memory for tests: every port has a small double, the clock and the ids are predictable."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from adapters.blueprints.valohai import ValohaiBlueprints
from adapters.clouds.memory import MemoryCloud
from adapters.metadata.memory import MemoryMetadata
from adapters.stores.memory import MemoryStore
from lamplighter.domain.projects import Principal
from lamplighter.errors import AlreadyExists, NotFound
from lamplighter.ports import (
    GitCommit,
    Json,
    Purpose,
    Store,
)
from lamplighter.world import Installation, World

START = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
ORGANISATION = "org-1"


class SteppingClock:
    """Starts at START and moves on by one microsecond with every reading, so that no two moments are equal."""

    def __init__(self, start: datetime = START) -> None:
        self._next = start
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            moment = self._next
            self._next += timedelta(microseconds=1)
            return moment

    def set(self, moment: datetime) -> None:
        """The next reading gives this moment."""
        self._next = moment

    def advance(self, **span: float) -> None:
        """Let time pass: `clock.advance(minutes=5)`."""
        self._next += timedelta(**span)


class CountedIds:
    """Ids that look like UUIDv7 and rise by one: 019b8d58-2400-7000-8000-000000000001 is the first."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        return f"019b8d58-2400-7000-8000-{next(self._numbers):012x}"


class MemoryStores:
    """The `Stores` port: by default one store named "default". `homes` names another for a purpose."""

    def __init__(
        self,
        stores: Mapping[str, Store] | None = None,
        *,
        default: str = "default",
        homes: Mapping[Purpose, str] | None = None,
    ) -> None:
        self._stores = dict(stores or {default: MemoryStore()})
        self._default = default
        self._homes = homes or {}

    def home(self, purpose: Purpose) -> str:
        return self._homes.get(purpose, self._default)

    def named(self, name: str) -> Store:
        if name not in self._stores:
            raise NotFound(f'there is no store "{name}"; there are: {", ".join(self._stores)}')
        return self._stores[name]

    def uri(self, name: str, key: str) -> str:
        return f"memory://{name}/{key}"

    def locate(self, uri: str) -> tuple[str, str] | None:
        name, _, key = uri.removeprefix("memory://").partition("/")
        return (name, key) if uri.startswith("memory://") and key and name in self._stores else None


class RecordingWorkflow:
    """The `Workflow` port: remembers what it was asked and runs nothing."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[str, Json]] = {}
        self.resumed: list[tuple[str, Json]] = []
        self.failed: list[tuple[str, str, str]] = []
        self.stopped: list[tuple[str, str]] = []

    def start(self, definition: str, name: str, argument: Json) -> None:
        if self.started.setdefault(name, (definition, argument)) != (definition, argument):
            raise AlreadyExists(f"{name} was started with another argument")

    def resume(self, token: str, output: Json) -> None:
        self.resumed.append((token, output))

    def fail(self, token: str, error: str, cause: str) -> None:
        self.failed.append((token, error, cause))

    def stop(self, name: str, cause: str) -> None:
        self.stopped.append((name, cause))


class MemorySecrets:
    """The `Secrets` port as a dict."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def put(self, name: str, value: str) -> None:
        self.values[name] = value

    def get(self, name: str) -> str:
        if name not in self.values:
            raise NotFound(f"there is no secret {name}")
        return self.values[name]

    def delete(self, name: str) -> None:
        self.values.pop(name, None)


@dataclass
class MemoryGit:
    """The `GitHost` port: `push` puts a tree where `resolve` finds it; `fault` makes every call fail."""

    refs: dict[tuple[str, str], tuple[GitCommit, bytes]] = field(default_factory=dict)
    fault: Exception | None = None

    def push(self, url: str, ref: str, identifier: str, files: Mapping[str, bytes], message: str = "a commit") -> None:
        self.refs[url, ref] = (GitCommit(identifier, ref, message, START), targz(files))

    def resolve(self, url: str, ref: str) -> GitCommit:
        return self._at(url, ref)[0]

    def archive(self, url: str, commit: GitCommit, target: BinaryIO) -> None:
        target.write(self._at(url, commit.ref)[1])

    def _at(self, url: str, ref: str) -> tuple[GitCommit, bytes]:
        if self.fault:
            raise self.fault
        if (url, ref) not in self.refs:
            raise NotFound(f"{url} has no ref {ref}")
        return self.refs[url, ref]


def make_world(**overrides: Any) -> World:
    """A fresh world; any field may be given instead, e.g. `make_world(now=clock, workflow=workflow)`."""
    parts: dict[str, Any] = {
        "installation": Installation(id="installation-1", url="https://lamplighter.test"),
        "metadata": MemoryMetadata(),
        "stores": MemoryStores(),
        "clouds": {"local": MemoryCloud(SteppingClock())},
        "workflow": RecordingWorkflow(),
        "secrets": MemorySecrets(),
        "blueprints": ValohaiBlueprints(),
        "git": MemoryGit(),
        "now": SteppingClock(),
        "new_id": CountedIds(),
    }
    return World(**(parts | overrides))


def a_member(name: str = "ada", *, organisation: str = ORGANISATION) -> Principal:
    """Somebody who works in an organisation."""
    return Principal(user_id=f"user-{name}", username=name, organisation_id=organisation, role="member")


def an_admin(name: str = "root", *, organisation: str = ORGANISATION) -> Principal:
    """Somebody who runs an organisation."""
    return Principal(user_id=f"user-{name}", username=name, organisation_id=organisation, role="admin")


TRAIN_STEP: dict[str, Any] = {
    "name": "train",
    "image": "python:3.12",
    "command": "python train.py {parameters}",
    "parameters": [{"name": "epochs", "type": "integer", "default": 5}],
    "inputs": [{"name": "images", "default": "https://example.test/images.tar", "optional": True}],
}
TRAIN_YAML = json.dumps([{"step": TRAIN_STEP}]).encode()
"""A `valohai.yaml` with one step, `train`; written as JSON, which is YAML too."""


def targz(files: Mapping[str, bytes]) -> bytes:
    """A gzip tar of these files; the same files always give the same bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as outer, tarfile.open(fileobj=outer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()
