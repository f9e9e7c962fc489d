"""What happens to a run, told in the same words whichever runner it was on, so that two tellings can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.metadata.memory import MemoryMetadata
from lamplighter.ports import Json, Put, Workflow, Write
from tests.emulators.theatre import EmulatedStage
from tests.state_machines.stage import Stage, Tasks

STATUSES = {"RUNNING": "running", "SUCCEEDED": "succeeded", "FAILED": "failed", "ABORTED": "stopped"}


@dataclass(frozen=True)
class Course:
    """How a run went.

    `steps`: what was done to it, each with the tasks that had been called by the time all was quiet again. `states`: each
    state that was entered, with its input, and left, with its output. `calls`: the payloads, tokens by order of appearance.
    `transitions`: arrows followed, from the start to the end; tries after the first are not in it.
    """

    steps: tuple[tuple[str, tuple[str, ...]], ...]
    states: tuple[tuple[str, str, Any], ...]
    calls: tuple[Json, ...]
    status: str
    error: str
    output: Any
    transitions: int


class Place(Protocol):
    """A runner with time that stands still, and one run on it."""

    @property
    def workflow(self) -> Workflow: ...

    @property
    def tasks(self) -> Tasks: ...

    def quiet(self) -> object:
        """Return once nothing more happens until time passes or somebody acts."""

    def pass_time(self, seconds: int, *, step: int = 1) -> None:
        """Let time pass in steps of so many seconds, and be quiet after each."""

    def course(self, definition: str, name: str, steps: Sequence[tuple[str, tuple[str, ...]]]) -> Course:
        """How the run went until now."""


class Play:
    """One run of a definition, acted upon from outside; every act ends when all is quiet."""

    def __init__(self, place: Place, definition: str, argument: Json) -> None:
        self._place = place
        self._definition = definition
        self._argument = argument
        self._name = f"{definition}-1"
        self._steps: list[tuple[str, tuple[str, ...]]] = []
        self.tasks = place.tasks
        self.workflow = place.workflow

    def start(self) -> None:
        self.workflow.start(self._definition, self._name, self._argument)
        self._done("start")

    def answer(self, task: str, output: Json | None = None, *, nth: int = -1) -> None:
        """Answer the token that the nth call of this task was given."""
        self.workflow.resume(self._token(task, nth), output or {})
        self._done(f"answer {task}")

    def fail(self, task: str, error: str, *, nth: int = -1) -> None:
        """Fail the token that the nth call of this task was given."""
        self.workflow.fail(self._token(task, nth), error, "said the test")
        self._done(f"fail {task}")

    def stop(self) -> None:
        self.workflow.stop(self._name, "enough")
        self._done("stop")

    def pass_time(self, seconds: int, *, step: int = 1) -> None:
        self._place.pass_time(seconds, step=step)
        self._done(f"{seconds} s")

    def watch(self, seconds: int, *, every: int) -> None:
        """Let time pass, and look so often which tasks were called."""
        for _ in range(0, seconds, every):
            self.pass_time(every)

    def course(self) -> Course:
        return self._place.course(self._definition, self._name, self._steps)

    def _token(self, task: str, nth: int) -> str:
        return str([call for call in self.tasks.calls if call["task"] == task][nth]["task_token"])

    def _done(self, step: str) -> None:
        self._place.quiet()
        self._steps.append((step, tuple(self.tasks.names())))


class Journal(MemoryMetadata):
    """Metadata that remember every value that a run has had."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Json] = []

    def transact(self, writes: Sequence[Write]) -> None:
        super().transact(writes)
        self.runs += [
            write.value
            for write in writes
            if isinstance(write, Put) and write.key.partition.startswith("workflow#") and write.key.sort == "run"
        ]


class EmbeddedPlace(Stage):
    """The embedded runner, which journals each step of a run."""

    def __init__(self) -> None:
        self.journal = Journal()
        super().__init__(self.journal)

    def course(self, definition: str, name: str, steps: Sequence[tuple[str, tuple[str, ...]]]) -> Course:
        last = self.journal.runs[-1]
        return Course(
            steps=tuple(steps),
            states=tuple(_journaled(self.journal.runs)),
            calls=_calls(self.tasks),
            status=last["status"],
            error=last["error"],
            output=last["output"],
            transitions=last["transitions"],
        )


class EmulatedPlace(EmulatedStage):
    """Emulated Step Functions, which keep a history of each execution."""

    def course(self, definition: str, name: str, steps: Sequence[tuple[str, tuple[str, ...]]]) -> Course:
        found = self.execution(definition, name)
        states = tuple(_remembered(self.history(definition, name)))
        entered = sum(1 for _, what, _ in states if what == "entered")
        succeeded = found["status"] == "SUCCEEDED"
        return Course(
            steps=tuple(steps),
            states=states,
            calls=_calls(self.tasks),
            status=STATUSES[found["status"]],
            error=found.get("error", "") if found["status"] == "FAILED" else "",
            # ministack gives failed executions an output; on AWS only those that succeeded have one.
            output=json.loads(found["output"]) if succeeded else None,
            transitions=entered + (found["status"] in ("SUCCEEDED", "FAILED")),
        )


def _journaled(runs: Sequence[Json]) -> Iterator[tuple[str, str, Any]]:
    before: Json = {"transitions": 0}
    for run in runs:
        if run["phase"] == "ended":
            if run["status"] == "succeeded":
                yield before["state"], "left", run["output"]
        elif run["transitions"] > before["transitions"]:
            if before["transitions"]:
                yield before["state"], "left", run["input"]
            yield run["state"], "entered", run["input"]
        before = run


def _remembered(history: Sequence[Json]) -> Iterator[tuple[str, str, Any]]:
    for event in history:
        if event["type"].endswith("StateEntered"):
            details = event["stateEnteredEventDetails"]
            yield details["name"], "entered", json.loads(details["input"])
        elif event["type"].endswith("StateExited"):
            details = event["stateExitedEventDetails"]
            yield details["name"], "left", json.loads(details["output"])


def _calls(tasks: Tasks) -> tuple[Json, ...]:
    numbers: dict[str, str] = {}
    return tuple(_without_token(call, numbers) for call in tasks.calls)


def _without_token(call: Json, numbers: dict[str, str]) -> Json:
    if "task_token" not in call:
        return call
    return {**call, "task_token": numbers.setdefault(call["task_token"], f"token {len(numbers) + 1}")}
