"""A place to watch state machines on the embedded runner: a clock that stands still, counted ids, and tasks that remember."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from adapters.workflow.embedded import EmbeddedWorkflow
from lamplighter.ports import Json, Key, Metadata

FOLDER = Path(__file__).parents[2] / "state_machines"
DEFINITIONS: Mapping[str, Json] = {
    path.name.removesuffix(".asl.json"): json.loads(path.read_text()) for path in FOLDER.glob("*.asl.json")
}


class StillClock:
    """Stands at noon until told to move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Tasks:
    """The "Lambda": remembers its payloads; by task name, `failures` are raised first, then `reactions` are called."""

    def __init__(self) -> None:
        self.calls: list[Json] = []
        self.failures: dict[str, list[Exception]] = {}
        self.reactions: dict[str, Callable[[Json], Any]] = {}

    def __call__(self, payload: Json) -> Any:
        self.calls.append(payload)
        failures = self.failures.get(payload["task"])
        if failures:
            raise failures.pop(0)
        reaction = self.reactions.get(payload["task"])
        return reaction(payload) if reaction else None

    def names(self) -> list[str]:
        return [call["task"] for call in self.calls]

    def last(self, task: str) -> Json:
        """The payload of the newest call of this task."""
        return next(call for call in reversed(self.calls) if call["task"] == task)

    def token(self, task: str) -> str:
        return str(self.last(task)["task_token"])


class Stage:
    """An embedded workflow without threads, and all that it needs."""

    def __init__(self, metadata: Metadata, definitions: Mapping[str, Json] = DEFINITIONS) -> None:
        self.metadata = metadata
        self.definitions = definitions
        self.clock = StillClock()
        self.tasks = Tasks()
        self._ids = itertools.count(1)
        self.workflow = self.open(metadata)

    @property
    def calls(self) -> list[Json]:
        return self.tasks.calls

    def open(self, metadata: Metadata) -> EmbeddedWorkflow:
        """Another runner over this metadata, as after a restart."""
        return EmbeddedWorkflow(metadata, self.definitions, self.tasks, self.clock, lambda: f"id-{next(self._ids)}")

    def quiet(self) -> int:
        """Run whatever is due at this moment."""
        return self.workflow.run_due(self.clock())

    def pass_time(self, seconds: int, *, step: int = 1) -> None:
        """Let time pass in steps of so many seconds, running what falls due."""
        for _ in range(0, seconds, step):
            self.clock.advance(step)
            self.quiet()

    def run(self, name: str) -> Json:
        """The run as the journal has it."""
        record = self.metadata.get(Key(f"workflow#{name}", "run"))
        assert record is not None
        return record.value
