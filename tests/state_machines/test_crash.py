"""Kills the runner before and after every write to its journal: every flow ends as if nothing had happened."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.metadata.memory import MemoryMetadata
from lamplighter.errors import NotYet
from lamplighter.ports import Json, Key, Page, Record, Write
from tests.state_machines.stage import Stage

Kill = tuple[int, bool]
"""The journal write at which to die, counted from 1, and whether it is done before."""


class Killed(BaseException):
    """As `kill -9`: no handler of ours may see it."""


class MortalMetadata:
    """Metadata that ends the process at chosen writes."""

    def __init__(self, kills: Sequence[Kill]) -> None:
        self._inner = MemoryMetadata()
        self._kills = kills
        self.writes = 0

    def get(self, key: Key) -> Record | None:
        return self._inner.get(key)

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        return self._inner.get_many(keys)

    def query(self, partition: str, **how: Any) -> Page:
        return self._inner.query(partition, **how)

    def transact(self, writes: Sequence[Write]) -> None:
        self.writes += 1
        if (self.writes, False) in self._kills:
            raise Killed
        self._inner.transact(writes)
        if (self.writes, True) in self._kills:
            raise Killed


Step = Callable[[Stage], object]


def start_machine(stage: Stage) -> None:
    stage.workflow.start("machine", "f", {"machine_id": "m1", "boot_seconds": 300})


def start_execution(stage: Stage) -> None:
    stage.workflow.start("execution", "f", {"execution_id": "e1"})


def run(stage: Stage) -> None:
    stage.quiet()


def wait(seconds: float) -> Step:
    """Time passes once, however often the step is repeated."""
    passed = itertools.chain([seconds], itertools.repeat(0.0))

    def step(stage: Stage) -> None:
        stage.clock.advance(next(passed))
        stage.quiet()

    return step


def answer(task: str) -> Step:
    return lambda stage: stage.workflow.resume(stage.tasks.token(task), {"status": "complete"})


def refuse(task: str) -> Step:
    return lambda stage: stage.workflow.fail(stage.tasks.token(task), "NoCapacity", "none left")


def answer_at_once(task: str) -> Step:
    def step(stage: Stage) -> None:
        stage.tasks.reactions[task] = lambda call: stage.workflow.resume(call["task_token"], {})

    return step


def not_yet(stage: Stage) -> None:
    stage.tasks.failures["put_out_machine"] = [NotYet("stopping"), NotYet("stopping")]


def stop(stage: Stage) -> None:
    stage.workflow.stop("f", "enough")


STORIES: dict[str, Callable[[], list[Step]]] = {
    "an execution succeeds": lambda: [start_execution, run, answer("begin_execution"), run],
    "an execution fails": lambda: [start_execution, run, refuse("begin_execution"), run],
    "an execution is answered while it begins": lambda: [answer_at_once("begin_execution"), start_execution, run],
    "an execution is stopped": lambda: [start_execution, run, stop, answer("begin_execution"), run],
    "a machine lives": lambda: [
        *(not_yet, start_machine, run, answer("launch_machine"), run, answer("watch_machine"), run),
        *(wait(30), wait(30), wait(30), wait(30)),
    ],
    "a machine never registers": lambda: [start_machine, run, wait(300), wait(30)],
    "a machine has no capacity": lambda: [start_machine, run, refuse("launch_machine"), run],
}


def play(story: str, kills: Sequence[Kill]) -> tuple[MortalMetadata, Stage]:
    """Go through a story. Whoever dies in a step is started anew and the step is repeated, as its caller would; a step
    that returned is never repeated: what it said was accepted must not need saying twice.
    """
    metadata = MortalMetadata(kills)
    stage = Stage(metadata)
    for step in STORIES[story]():
        while True:
            try:
                step(stage)
            except Killed:
                stage.workflow = stage.open(metadata)
                continue
            break
    return metadata, stage


def ending(stage: Stage) -> Json:
    """All of the end that does not depend on how often a task was tried."""
    value = stage.run("f")
    return {
        part: value[part] for part in ("status", "output", "error", "transitions", "state", "token", "due", "phase")
    }


def order(stage: Stage) -> list[str]:
    """The tasks as they were called, tries of the same one counted once."""
    return [name for name, _ in itertools.groupby(stage.tasks.names())]


@pytest.mark.parametrize("deaths", [1, 2])
@pytest.mark.parametrize("story", sorted(STORIES))
def test_a_flow_ends_alike_wherever_its_runner_is_killed(story: str, deaths: int) -> None:
    calm_metadata, calm = play(story, [])
    moments = [(write, done) for write in range(1, calm_metadata.writes + deaths) for done in (False, True)]

    for kills in itertools.combinations(moments, deaths):
        metadata, stage = play(story, kills)

        assert ending(stage) == ending(calm), kills
        assert order(stage) == order(calm), kills
        assert metadata.query("workflows-due").records == (), kills


@pytest.mark.parametrize("story", sorted(STORIES))
def test_the_stories_come_to_their_end(story: str) -> None:
    metadata, stage = play(story, [])

    assert stage.run("f")["status"] in ("succeeded", "stopped")
    assert metadata.writes >= 3
