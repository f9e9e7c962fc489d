"""A sweep for which there is more to do than it has time: what matters is done first, and the rest has its turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from adapters.metadata.memory import MemoryMetadata
from lamplighter import keys
from lamplighter.domain.executions import Execution, Status
from lamplighter.domain.sweeps import Place, SweepMemory
from lamplighter.errors import Throttled
from lamplighter.intents import intend
from lamplighter.ports import ANY, Delete, Json, Key, LaunchRequest, Page, Put, Record, Write
from lamplighter.records import find, new, walk
from lamplighter.usecases.environments import create_environment
from lamplighter.usecases.queueing import queue_key
from lamplighter.usecases.sweep import sweep
from lamplighter.usecases.sweep_report import SweepReport
from tests.doubles import SteppingClock
from tests.faults import Killed
from tests.life import Agent, Life, with_agent

QUEUED = 130
READ_SECONDS = 0.1
TIME = 4.5
"""For a sweep: the reads that come first take about half of it, and all executions take several times as much."""


class SlowMetadata:
    """`Metadata` each of whose reads takes `seconds` of the clock. It does not answer for the keys in `away`."""

    def __init__(self, clock: SteppingClock) -> None:
        self._inner = MemoryMetadata()
        self._clock = clock
        self.seconds = 0.0
        self.reads = 0
        self.away: set[Key] = set()

    def get(self, key: Key) -> Record | None:
        self._take([key])
        return self._inner.get(key)

    def get_many(self, wanted: Sequence[Key]) -> dict[Key, Record]:
        self._take(wanted)
        return self._inner.get_many(wanted)

    def query(self, partition: str, **bounds: Any) -> Page:
        self._take([])
        return self._inner.query(partition, **bounds)

    def transact(self, writes: Sequence[Write]) -> None:
        self._inner.transact(writes)

    def _take(self, wanted: Sequence[Key]) -> None:
        self._clock.advance(seconds=self.seconds)
        self.reads += 1
        if self.away.intersection(wanted):
            raise Throttled("later")


class Workflow:
    """The `Workflow` of a life. To start one for an execution takes `seconds` of the clock, or our process is killed in it."""

    def __init__(self, life: Life, seconds: float = 0.0, *, deadly: bool = False) -> None:
        self._inner, self._clock = life.world.workflow, life.clock
        self.seconds, self.deadly = seconds, deadly
        self.started: list[str] = []

    def start(self, definition: str, name: str, argument: Json) -> None:
        if definition == "execution":
            self._clock.advance(seconds=self.seconds)
            if self.deadly:
                raise Killed
            self.started.append(name)
        self._inner.start(definition, name, argument)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Crowd:
    """Many executions wait in two environments, and every read takes its time from now on."""

    def __init__(self, queued: int = QUEUED, *, agent: bool = False) -> None:
        self.clock = SteppingClock()
        self.metadata = SlowMetadata(self.clock)
        self.life = Life(self.metadata, clock=self.clock, max_machines=1)
        other = {"slug": "other", "name": "Another", "cloud": "local", "max_machines": 1}
        create_environment(self.life.principal, other, world=self.life.world)
        self.busy = self._busy() if agent else None
        self.waiting = [self.life.submit(environment=("local", "other")[n % 2]) for n in range(queued)]
        self.life.settle()
        self.metadata.seconds = READ_SECONDS

    def _busy(self) -> Agent:
        self.life.submit(environment="local")
        agent = with_agent(self.life)
        agent.claim()
        agent.start()
        return agent

    def works_with(self, workflow: Workflow) -> Workflow:
        self.life.world = replace(self.life.world, workflow=workflow)
        return workflow

    def sweep(self, seconds: float | None = TIME) -> SweepReport:
        """The next minute's."""
        self.clock.advance(minutes=1)
        return sweep(world=self.life.world, seconds=seconds)

    def sweeps(self, seconds: float = TIME) -> list[SweepReport]:
        """As many as one round through all executions takes."""
        reports = [self.sweep(seconds)]
        while reports[-1].cut:
            assert len(reports) < QUEUED
            reports.append(self.sweep(seconds))
        return reports

    def forget(self, *lost: Key) -> None:
        self.life.world.metadata.transact([Delete(key, ANY) for key in lost])

    def memory(self) -> SweepMemory:
        found = find(self.life.world.metadata, SweepMemory, keys.SWEEP)
        assert found
        return found.value

    def in_queues(self) -> set[str]:
        environments = {execution.environment_id for execution in self.waiting}
        rows = (row for e in environments for row in walk(self.life.world.metadata, keys.queue(e)))
        return {str(row.value["execution_id"]) for row in rows}


def in_order(executions: Sequence[Execution]) -> list[str]:
    return [e.id for e in sorted(executions, key=lambda e: (e.environment_id, e.id))]


# --- Each in its turn -------------------------------------------------------------------------------------------------


def test_a_walk_that_is_cut_goes_on_in_the_next_sweep_until_everyone_was_looked_at_once():
    crowd = Crowd()
    for execution in crowd.waiting:
        crowd.forget(queue_key(execution))

    reports = crowd.sweeps()

    assert len(reports) >= 3
    assert all(report.looked_at for report in reports)
    assert sum(report.looked_at for report in reports) == QUEUED
    assert sum(report.requeued for report in reports) == QUEUED
    assert crowd.in_queues() == {execution.id for execution in crowd.waiting}
    assert crowd.memory().place is None
    assert crowd.sweep().looked_at > 0


def test_the_place_is_remembered_while_the_walk_is_under_way():
    crowd = Crowd()

    report = crowd.sweep()

    last = in_order(crowd.waiting)[report.looked_at - 1]
    place = crowd.memory().place
    assert report.cut
    assert place
    assert place.execution_id == last


def test_a_sweep_that_has_all_the_time_in_the_world_looks_at_everyone_and_remembers_no_place():
    crowd = Crowd()

    report = crowd.sweep(seconds=None)

    assert (report.looked_at, report.cut) == (QUEUED, False)
    assert crowd.memory().place is None


def test_executions_are_read_many_at_a_time():
    few, many = Crowd(30), Crowd(QUEUED)
    for crowd in (few, many):
        crowd.metadata.reads = 0
        crowd.sweep(seconds=None)

    assert many.metadata.reads - few.metadata.reads <= (QUEUED - 30) / 5


@pytest.mark.parametrize("environment", ["0", "~"])
def test_an_environment_that_is_gone_is_a_place_like_any_other(environment: str):
    crowd = Crowd(30)
    crowd.life.world.metadata.transact([new(keys.SWEEP, SweepMemory(place=Place(environment, "x")))])

    seen = [crowd.sweep(seconds=None).looked_at for _ in range(2)]

    assert seen == ([30, 30] if environment == "0" else [0, 30])


def test_time_is_looked_at_before_every_state_machine_that_is_started():
    crowd = Crowd(30)
    crowd.metadata.seconds = 0
    for execution in crowd.waiting:
        crowd.forget(keys.workflow_token(execution.id))
    workflow = crowd.works_with(Workflow(crowd.life, seconds=10))

    first, second = crowd.sweep(seconds=45), crowd.sweep(seconds=45)

    assert [(report.looked_at, report.cut) for report in (first, second)] == [(5, True)] * 2
    assert workflow.started == [f"execution-{i}" for i in in_order(crowd.waiting)[:10]]


def test_executions_that_cannot_be_read_keep_the_others_from_nothing():
    crowd = Crowd()
    crowd.metadata.away = {keys.execution(in_order(crowd.waiting)[3])}

    reports = crowd.sweeps()

    assert [fault for report in reports for fault in report.faults] == ["throttled: later"]
    assert sum(report.looked_at for report in reports) == QUEUED - 25


def test_a_sweep_goes_past_executions_none_of_which_can_be_read_and_ends_in_time():
    crowd = Crowd()
    crowd.metadata.away = {keys.execution(execution.id) for execution in crowd.waiting}

    reports = crowd.sweeps(seconds=3.5)

    assert len(reports) >= 2
    assert sum(len(report.faults) for report in reports) == 6
    assert not any(report.looked_at for report in reports)


def test_machines_that_take_all_the_time_leave_some_for_executions_nonetheless():
    crowd = Crowd(30)

    reports = crowd.sweeps(seconds=3.5)

    assert len(reports) >= 2
    assert sum(report.looked_at for report in reports) == 30


# --- What comes first -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, TIME])
def test_a_silent_machine_is_fenced_and_an_orphan_ended_although_no_walk_ever_comes_to_its_end(seconds: float):
    crowd = Crowd(agent=True)
    request = LaunchRequest("t", "orphan", crowd.life.world.installation.id, "local", "https://x", "join", {})
    crowd.life.cloud.launch(request)
    assert crowd.busy

    # Each time the walk is sent back to its beginning.
    reports = []
    for _ in range(8):
        reports.append(crowd.sweep(seconds))
        row = crowd.metadata.get(keys.SWEEP)
        assert row
        crowd.metadata.transact([Put(keys.SWEEP, {**row.value, "place": None}, ANY)])

    assert all(report.cut for report in reports)
    assert sum(report.fenced for report in reports) == 1
    assert sum(report.orphans for report in reports) == 1
    assert crowd.life.execution(crowd.busy.execution_id).status is Status.QUEUED


def test_a_promise_in_which_the_sweep_is_killed_each_time_keeps_no_silent_machine_alive():
    crowd = Crowd(2, agent=True)
    assert crowd.busy
    crowd.works_with(Workflow(crowd.life, deadly=True))
    promise = intend(crowd.life.world, "start_execution", execution_id=crowd.waiting[0].id)
    crowd.life.world.metadata.transact([promise])

    for _ in range(8):
        with pytest.raises(Killed):
            crowd.sweep(seconds=45)

    assert crowd.life.machine(crowd.busy.machine_id).retired_because == "no heartbeat for 300 s"


def test_promises_are_kept_as_long_as_there_is_time_and_slow_ones_leave_some_for_executions():
    crowd = Crowd(2)
    crowd.metadata.seconds = 0
    workflow = crowd.works_with(Workflow(crowd.life, seconds=10))
    names = [f"execution-{execution.id}" for execution in crowd.waiting]
    for execution in crowd.waiting * 3:
        promise = intend(crowd.life.world, "start_execution", execution_id=execution.id)
        crowd.life.world.metadata.transact([promise])

    reports = [crowd.sweep(seconds=45), crowd.sweep(seconds=45)]

    assert [(report.delivered, report.looked_at) for report in reports] == [(3, 2), (3, 2)]
    assert workflow.started == names * 3


def test_a_cloud_whose_records_cannot_be_read_is_reported_and_the_rest_is_done():
    crowd = Crowd(2)
    crowd.metadata.away = {keys.machine("stranger")}
    request = LaunchRequest("t", "stranger", crowd.life.world.installation.id, "local", "https://x", "join", {})
    crowd.life.cloud.launch(request)

    report = crowd.sweep(seconds=None)

    assert report.faults == ("throttled: later",)
    assert report.looked_at == 2
    assert crowd.memory().finished_at
