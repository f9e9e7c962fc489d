"""The fault plan itself: it numbers effects, hurts as it says, finds a real crash bug and lets a correct flow pass."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from adapters.metadata.memory import MemoryMetadata
from adapters.stores.memory import MemoryStore
from lamplighter.errors import Conflict, Throttled, Unavailable
from lamplighter.ports import ABSENT, ANY, CloudMachine, Json, Key, LaunchRequest, Metadata, Put, Record
from tests.faults import (
    Enumerated,
    Fault,
    FaultCloud,
    FaultMetadata,
    FaultPlan,
    FaultStore,
    FaultWorkflow,
    Killed,
    Mode,
    Scenario,
    enumerate_faults,
)

ONE = Key("p", "one")


class TokenCloud:
    """Starts one machine per launch token, as real clouds do."""

    def __init__(self) -> None:
        self.machines: dict[str, CloudMachine] = {}

    def launch(self, request: LaunchRequest) -> CloudMachine:
        machine = CloudMachine(request.machine_id, f"i-{len(self.machines)}", "running")
        return self.machines.setdefault(request.launch_token, machine)

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        return tuple(self.machines.values())

    def terminate(self, machine_id: str) -> None:
        self.machines = {token: found for token, found in self.machines.items() if found.machine_id != machine_id}


class WorkflowLog:
    """Remembers what was asked of a workflow."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def start(self, definition: str, name: str, argument: Json) -> None:
        self.calls.append(("start", definition, name))

    def resume(self, token: str, output: Json) -> None:
        self.calls.append(("resume", token))

    def fail(self, token: str, error: str, cause: str) -> None:
        self.calls.append(("fail", token, error))

    def stop(self, name: str, cause: str) -> None:
        self.calls.append(("stop", name))


@dataclass
class Capacity:
    """At most one machine is wanted. Ids are fresh with every call, as they are in life."""

    plan: FaultPlan
    cloud: TokenCloud = field(default_factory=TokenCloud)
    ids: int = 0

    def __post_init__(self) -> None:
        self.metadata: Metadata = FaultMetadata(MemoryMetadata(), self.plan)
        self.outside = FaultCloud(self.cloud, self.plan)

    def new_id(self) -> str:
        self.ids += 1
        return f"m{self.ids}"

    def launch(self, machine_id: str) -> None:
        self.outside.launch(LaunchRequest(machine_id, machine_id, "here", "cpu", "http://x", "join", {}))


def count_then_act(world: Capacity) -> None:
    """The bug: between the launch and the record, a death forgets the machine."""
    if world.metadata.query("machines").records:
        return
    machine_id = world.new_id()
    world.launch(machine_id)
    world.metadata.transact([Put(Key("machines", machine_id), {"state": "launched"}, ABSENT)])


def record_then_act(world: Capacity) -> None:
    """The cure: the slot is reserved by a condition and the token is stored, before the world is touched."""
    slot = Key("machines", "slot-1")
    found = world.metadata.get(slot)
    if found is None:
        try:
            world.metadata.transact([Put(slot, {"id": world.new_id(), "state": "wanted"}, ABSENT)])
        except Conflict as lost:
            raise Unavailable("somebody else was quicker: look again") from lost
        found = world.metadata.get(slot)
    if found is None or found.value["state"] == "launched":
        return
    world.launch(found.value["id"])
    world.metadata.transact([Put(slot, {**found.value, "state": "launched"}, ANY)])


def one_machine_that_is_known(world: Capacity) -> None:
    launched = [machine.machine_id for machine in world.outside.describe("here")]
    assert len(launched) == 1, f"{len(launched)} machines run"
    known = [record.value.get("id", record.key.sort) for record in world.metadata.query("machines").records]
    assert known == launched


def failing(world: Callable[[FaultPlan], Capacity], act: Callable[[Capacity], None], *modes: Mode) -> str:
    with pytest.raises(AssertionError) as failure:
        enumerate_faults(Scenario(world, act), one_machine_that_is_known, modes=modes)
    return str(failure.value)


# --- Enumerating ----------------------------------------------------------------------------------------------------


def test_counting_and_then_acting_is_found_to_leak_a_machine_when_the_process_dies_in_between() -> None:
    story = failing(Capacity, count_then_act, "kill")

    assert story.startswith("with faults (1, 'kill'): AssertionError: 2 machines run")
    assert "  1. launch(m1)\n  2. launch(m2)\n  3. transact(put machines/m2)" in story


@pytest.mark.parametrize(("mode", "effect"), [("after", 1), ("before", 2), ("kill_before", 2), ("throttle", 2)])
def test_each_other_way_of_losing_the_record_is_found_at_its_effect(mode: Mode, effect: int) -> None:
    assert failing(Capacity, count_then_act, mode).startswith(f"with faults ({effect}, '{mode}')")


def test_recording_before_acting_survives_every_fault_and_every_two_faults() -> None:
    scenario = Scenario(Capacity, record_then_act)

    singles = enumerate_faults(scenario, one_machine_that_is_known)
    pairs = enumerate_faults(scenario, one_machine_that_is_known, pairs=True)

    assert singles == Enumerated(effects=3, reads=2, schedules=15)
    assert pairs.schedules > 100


def test_a_redelivery_comes_even_when_the_first_try_went_well_and_must_do_no_harm() -> None:
    def launch_one_more(world: Capacity) -> None:
        world.launch(world.new_id())

    with pytest.raises(AssertionError, match=r"with faults none.*2 machines run"):
        enumerate_faults(Scenario(Capacity, launch_one_more, launch_one_more), one_machine_that_is_known)
    enumerate_faults(Scenario(Capacity, record_then_act, record_then_act), one_machine_that_is_known)


def test_the_second_fault_of_a_pair_strikes_the_redelivery_too() -> None:
    struck: list[list[str]] = []

    def look(world: Capacity) -> None:
        if len(world.plan.fired) == 2:
            struck.append(world.plan.effects)

    enumerate_faults(Scenario(Capacity, lambda world: world.launch("m1")), look, modes=["kill_before"], pairs=True)

    assert struck == [["launch(m1)"] * 3]


def test_a_stale_read_is_enumerated_and_finds_who_trusts_it() -> None:
    def write_twice(world: Capacity) -> None:
        for n in (1, 2):
            found = world.metadata.get(ONE)
            world.metadata.transact([Put(ONE, {"n": n, "saw": None if found is None else found.value["n"]}, ANY)])

    def saw_the_first(world: Capacity) -> None:
        assert world.metadata.get_many([ONE])[ONE].value == {"n": 2, "saw": 1}

    with pytest.raises(AssertionError, match=r"with faults \(2, 'stale'\)"):
        enumerate_faults(Scenario(Capacity, write_twice), saw_the_first, modes=["stale"])


def test_a_failure_that_no_fault_explains_is_shown() -> None:
    def broken(world: Capacity) -> None:
        raise Unavailable("always")

    with pytest.raises(AssertionError, match="with faults none: Unavailable: always"):
        enumerate_faults(Scenario(Capacity, broken), one_machine_that_is_known)


def test_a_scenario_that_behaves_differently_each_time_is_shown() -> None:
    runs: list[int] = []

    def fickle(world: Capacity) -> None:
        runs.append(1)
        for n in range(3 - len(runs)):
            world.launch(f"m{n}")

    with pytest.raises(AssertionError, match="does not behave alike"):
        enumerate_faults(Scenario(Capacity, fickle), lambda world: None, modes=["throttle"])


def test_preparing_and_checking_a_world_is_neither_counted_nor_hurt() -> None:
    def prepared(plan: FaultPlan) -> Capacity:
        world = Capacity(plan)
        world.metadata.transact([Put(ONE, {}, ABSENT)])
        return world

    def check(world: Capacity) -> None:
        world.metadata.transact([Put(ONE, {}, 1)])

    found = enumerate_faults(Scenario(prepared, lambda world: world.launch("m")), check, pairs=True)

    assert found == Enumerated(effects=1, reads=0, schedules=5 + 5 * 5)


# --- One fault ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "raised", "done"),
    [
        ("before", Unavailable, False),
        ("after", Unavailable, True),
        ("throttle", Throttled, False),
        ("kill_before", Killed, False),
        ("kill", Killed, True),
    ],
)
def test_each_mode_raises_and_does_what_it_says(mode: Mode, raised: type[BaseException], done: bool) -> None:
    plan = FaultPlan(Fault(2, mode))
    inner = MemoryMetadata()
    metadata = FaultMetadata(inner, plan)
    metadata.transact([Put(Key("p", "first"), {}, ABSENT)])

    with pytest.raises(raised):
        metadata.transact([Put(ONE, {}, ABSENT)])

    assert (inner.get(ONE) is not None) == done
    assert plan.fired == [Fault(2, mode)]
    plan.revive()
    metadata.transact([Put(ONE, {}, ANY)])
    assert plan.count == 3


def test_a_lost_answer_may_have_been_a_refusal() -> None:
    metadata = FaultMetadata(MemoryMetadata(), FaultPlan(Fault(1, "after")))

    with pytest.raises(Unavailable):
        metadata.transact([Put(ONE, {}, 7)])

    assert metadata.get(ONE) is None


def test_the_dead_do_nothing_until_a_new_process_takes_over() -> None:
    plan = FaultPlan(Fault(1, "kill"))
    metadata, store = FaultMetadata(MemoryMetadata(), plan), FaultStore(MemoryStore(), plan)
    with pytest.raises(Killed):
        metadata.transact([Put(ONE, {}, ABSENT)])

    for call in (
        lambda: metadata.get(ONE),
        lambda: metadata.query("p"),
        lambda: store.put("x", io.BytesIO(b""), size=0),
        lambda: store.head("x"),
    ):
        with pytest.raises(Killed):
            call()

    assert plan.count == 1
    plan.revive()
    assert metadata.get(ONE) == Record(ONE, 1, {})


def test_the_effects_of_all_ports_of_a_plan_are_numbered_in_one_order() -> None:
    plan = FaultPlan()
    metadata, store = FaultMetadata(MemoryMetadata(), plan), FaultStore(MemoryStore(), plan)
    log = WorkflowLog()
    cloud, workflow = FaultCloud(TokenCloud(), plan), FaultWorkflow(log, plan)

    metadata.transact([Put(ONE, {}, ABSENT)])
    store.put("key", io.BytesIO(b"abc"), size=3)
    cloud.launch(LaunchRequest("t", "m", "here", "cpu", "http://x", "join", {}))
    workflow.start("execution", "e1", {})
    workflow.resume("token", {})
    workflow.fail("token", "Error", "cause")
    workflow.stop("e1", "cause")
    cloud.terminate("m")
    store.delete("key")
    metadata.get(ONE)
    cloud.describe("here")
    list(store.list(""))

    assert plan.effects == [
        "transact(put p/one)",
        "put(key)",
        "launch(m)",
        "start(execution, e1)",
        "resume(token)",
        "fail(token)",
        "stop(e1)",
        "terminate(m)",
        "delete(key)",
    ]
    assert (plan.count, plan.reads) == (9, 1)
    assert log.calls == [("start", "execution", "e1"), ("resume", "token"), ("fail", "token", "Error"), ("stop", "e1")]


def test_a_stale_read_gives_what_was_there_before_the_last_write() -> None:
    metadata = FaultMetadata(MemoryMetadata(), FaultPlan(*(Fault(k, "stale") for k in (1, 2, 4, 5))))
    created = Key("p", "two")
    metadata.transact([Put(ONE, {"n": 1}, ABSENT)])
    metadata.transact([Put(ONE, {"n": 2}, 1), Put(created, {}, ABSENT)])

    stale = metadata.get(ONE)
    stale_many = metadata.get_many([ONE, created])
    fresh = metadata.get(ONE)
    stale_page = metadata.query("p")
    untouched = metadata.get(Key("p", "never"))

    assert stale == Record(ONE, 1, {"n": 1})
    assert stale_many == {ONE: Record(ONE, 1, {"n": 1})}
    assert fresh == Record(ONE, 2, {"n": 2})
    assert stale_page.records == (Record(ONE, 1, {"n": 1}),)
    assert untouched is None
