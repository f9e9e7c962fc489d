"""What only the embedded runner promises: threads that do not block each other, shared journals, upgrades, tidiness."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from adapters.metadata.memory import MemoryMetadata
from adapters.metadata.sqlite import SqliteMetadata
from adapters.workflow.embedded import EmbeddedWorkflow
from lamplighter.errors import Unavailable
from lamplighter.ports import ABSENT, Json, Key, Metadata, Put, Record, Write
from tests.state_machines.stage import DEFINITIONS, Stage, Tasks

PATIENCE = 60
"""Seconds after which a thread that should have acted is taken for dead; none of these tests waits that long."""


class Running:
    """An embedded workflow with its threads and a real clock."""

    def __init__(self, metadata: Metadata) -> None:
        ids = itertools.count(1)
        self.metadata = metadata
        self.tasks = Tasks()
        self.reached: dict[str, Event] = {}
        self.workflow = EmbeddedWorkflow(
            metadata, DEFINITIONS, self._note, lambda: datetime.now(UTC), lambda: f"{id(self)}-{next(ids)}"
        )

    def _note(self, payload: Json) -> object:
        try:
            return self.tasks(payload)
        finally:
            self._event(payload).set()

    def _event(self, payload: Json) -> Event:
        owner = payload.get("machine_id") or payload["execution_id"]
        return self.reached.setdefault(f"{payload['task']} {owner}", Event())

    def await_call(self, task: str, owner: str) -> None:
        assert self.reached.setdefault(f"{task} {owner}", Event()).wait(PATIENCE), f"{task} of {owner} was never called"


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running(MemoryMetadata())
    made.workflow.start_driver()
    yield made
    made.workflow.stop_driver()


def execution(workflow: EmbeddedWorkflow, name: str) -> None:
    workflow.start("execution", name, {"execution_id": name})


def test_the_driver_follows_a_flow_to_its_end(running: Running) -> None:
    execution(running.workflow, "e1")
    running.await_call("begin_execution", "e1")

    running.workflow.resume(running.tasks.token("begin_execution"), {})

    running.await_call("settle_execution", "e1")


def test_the_driver_wakes_for_a_retry(running: Running) -> None:
    running.tasks.failures["settle_execution"] = [Unavailable("away")]
    retried = Event()
    running.tasks.reactions["settle_execution"] = lambda _call: retried.set()
    execution(running.workflow, "e1")
    running.await_call("begin_execution", "e1")

    running.workflow.resume(running.tasks.token("begin_execution"), {})

    assert retried.wait(PATIENCE)


def test_a_slow_task_does_not_hold_up_the_others(running: Running) -> None:
    release = Event()
    running.tasks.reactions["launch_machine"] = lambda _call: release.wait(PATIENCE)
    for name in ("m1", "m2", "m3"):
        running.workflow.start("machine", name, {"machine_id": name, "boot_seconds": 300})

    execution(running.workflow, "e1")

    running.await_call("begin_execution", "e1")
    release.set()


def test_work_left_by_a_process_that_is_gone_is_taken_up() -> None:
    stage = Stage(MemoryMetadata())
    execution(stage.workflow, "e1")
    running = Running(stage.metadata)

    running.workflow.start_driver()
    running.workflow.start_driver()

    running.await_call("begin_execution", "e1")
    running.workflow.stop_driver()
    running.workflow.stop_driver()


class FailingMetadata(MemoryMetadata):
    """Metadata whose first writes after `break_down` are not done."""

    failures = 0

    def break_down(self, writes: int) -> None:
        self.failures = writes

    def transact(self, writes: Sequence[Write]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the disk is away")
        super().transact(writes)


def test_the_driver_outlives_a_journal_that_fails() -> None:
    metadata = FailingMetadata()
    running = Running(metadata)
    execution(running.workflow, "e1")
    metadata.break_down(writes=1)
    tried_twice = Event()

    def count(_call: Json) -> None:
        if len(running.tasks.calls) > 1:
            tried_twice.set()

    running.tasks.reactions["begin_execution"] = count

    running.workflow.start_driver()

    assert tried_twice.wait(PATIENCE)
    running.workflow.stop_driver()


def answer_at_once(workflow: EmbeddedWorkflow, call: Json) -> None:
    workflow.resume(call["task_token"], {})


def test_two_runners_on_one_journal_bring_every_flow_to_its_one_end(tmp_path: Path) -> None:
    metadata = SqliteMetadata(tmp_path / "metadata.db")
    pair = [Running(metadata), Running(metadata)]
    for running in pair:
        for task in ("begin_execution", "launch_machine", "watch_machine"):
            running.tasks.reactions[task] = partial(answer_at_once, running.workflow)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: execution(pair[n % 2].workflow, f"e{n // 2}"), range(40)))
        for n in range(20):
            pair[n % 2].workflow.start("machine", f"m{n}", {"machine_id": f"m{n}", "boot_seconds": 300})
        drives = [pool.submit(running.workflow.run_due, datetime.now(UTC)) for running in pair for _ in range(2)]
        assert all(drive.result(PATIENCE) >= 0 for drive in drives)

    runs = {name: metadata.get(Key(f"workflow#{name}", "run")) for n in range(20) for name in (f"e{n}", f"m{n}")}
    assert all(run is not None and run.value["status"] == "succeeded" for run in runs.values())
    assert {run.value["transitions"] for name, run in runs.items() if run and name.startswith("e")} == {3}
    assert {run.value["transitions"] for name, run in runs.items() if run and name.startswith("m")} == {5}
    assert metadata.query("workflows-due").records == ()
    metadata.close()


def test_a_flow_under_way_keeps_the_definition_it_was_started_with() -> None:
    stage = Stage(MemoryMetadata())
    execution(stage.workflow, "e1")
    stage.quiet()
    newer = copy.deepcopy(dict(DEFINITIONS["execution"]))
    newer["States"]["Settle"]["Arguments"]["Payload"]["task"] = "settle_better"

    stage.definitions = {"execution": newer}
    stage.workflow = stage.open(stage.metadata)
    stage.workflow.resume(stage.tasks.token("begin_execution"), {})
    execution(stage.workflow, "e2")
    stage.quiet()
    stage.workflow.resume(stage.tasks.token("begin_execution"), {})
    stage.quiet()

    assert stage.tasks.names() == ["begin_execution", "settle_execution", "begin_execution", "settle_better"]


def test_a_flow_that_has_ended_leaves_only_its_tombstone() -> None:
    stage = Stage(MemoryMetadata())
    execution(stage.workflow, "e1")
    stage.quiet()
    token = stage.tasks.token("begin_execution")

    stage.workflow.resume(token, {})
    stage.quiet()

    assert stage.metadata.get(Key(f"workflow-token#{token}", "token")) is None
    assert stage.metadata.query("workflows-due").records == ()
    assert stage.run("e1")["argument"] == {"execution_id": "e1"}


def test_a_row_of_the_due_index_without_a_run_is_removed() -> None:
    stage = Stage(MemoryMetadata())
    stray = Key("workflows-due", "2020-01-01T00:00:00.000000Z#ghost")
    stage.metadata.transact([Put(stray, {"name": "ghost"}, ABSENT)])

    stage.quiet()

    assert stage.metadata.get(stray) is None


def test_a_run_whose_definition_was_lost_fails_and_says_so() -> None:
    stage = Stage(MemoryMetadata())
    execution(stage.workflow, "e1")
    found: Record | None = stage.metadata.get(Key("workflow#e1", "run"))
    assert found is not None
    stage.metadata.transact([Put(found.key, {**found.value, "revision": "lost"}, found.version)])

    stage.quiet()

    assert stage.run("e1")["error"] == "States.Runtime"


def test_time_spent_in_a_task_does_not_count_for_what_follows_it() -> None:
    stage = Stage(MemoryMetadata())
    stage.tasks.reactions["watch_machine"] = lambda _call: stage.clock.advance(10)
    stage.workflow.start("machine", "m1", {"machine_id": "m1", "boot_seconds": 300})
    stage.quiet()
    stage.workflow.resume(stage.tasks.token("launch_machine"), {})
    stage.quiet()
    stage.workflow.fail(stage.tasks.token("watch_machine"), "Unavailable", "away")

    due = stage.run("m1")["due"]

    assert due == (stage.clock() + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
