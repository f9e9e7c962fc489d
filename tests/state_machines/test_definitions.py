"""Walks every state machine that is deployed through what may happen to it, on the embedded runner with a still clock."""

from __future__ import annotations

import pytest

from adapters.metadata.memory import MemoryMetadata
from adapters.workflow.subset import check_subset
from lamplighter.errors import LaunchRefused, NoCapacity, NotYet, Throttled, Unavailable
from tests.state_machines.stage import DEFINITIONS, Stage

DAY = 86_400
HISTORY_EVENTS = 25_000
EVENTS_PER_RETRY = 3


@pytest.fixture
def stage() -> Stage:
    return Stage(MemoryMetadata())


@pytest.fixture
def execution(stage: Stage) -> Stage:
    """An execution that has begun."""
    stage.workflow.start("execution", "e1", {"execution_id": "e1"})
    stage.quiet()
    return stage


@pytest.fixture
def machine(stage: Stage) -> Stage:
    """A machine that is starting."""
    stage.workflow.start("machine", "m1", {"machine_id": "m1", "boot_seconds": 300})
    stage.quiet()
    return stage


def test_every_definition_keeps_to_the_subset() -> None:
    found = {name: check_subset(definition) for name, definition in DEFINITIONS.items()}

    assert found == {"execution": [], "machine": []}


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_no_run_can_outgrow_the_history_of_step_functions(name: str) -> None:
    retriers = [rule for state in DEFINITIONS[name]["States"].values() for rule in state.get("Retry", ())]

    events = sum(rule["MaxAttempts"] * EVENTS_PER_RETRY for rule in retriers)

    assert events < HISTORY_EVENTS - 100


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_every_state_that_ends_something_is_tried_for_about_a_day(name: str) -> None:
    settling = [state for state in DEFINITIONS[name]["States"].values() if not state["Resource"].endswith("Token")]

    patience = [min(rule["MaxAttempts"] * rule["MaxDelaySeconds"] for rule in state["Retry"]) for state in settling]

    assert all(seconds >= DAY for seconds in patience)


# --- execution ------------------------------------------------------------------------------------------------------


def test_an_execution_begins_waits_and_is_settled(execution: Stage) -> None:
    token = execution.tasks.token("begin_execution")

    execution.workflow.resume(token, {})
    execution.quiet()

    assert execution.calls == [
        {"task": "begin_execution", "execution_id": "e1", "task_token": token},
        {"task": "settle_execution", "execution_id": "e1"},
    ]
    assert execution.run("e1")["status"] == "succeeded"
    assert execution.run("e1")["transitions"] <= 3


def test_a_waiting_execution_asks_for_nothing(execution: Stage) -> None:
    execution.clock.advance(30 * DAY)

    assert execution.quiet() == 0
    assert execution.tasks.names() == ["begin_execution"]


def test_an_execution_that_cannot_begin_is_settled(stage: Stage) -> None:
    stage.tasks.failures["begin_execution"] = [KeyError("gone")]

    stage.workflow.start("execution", "e1", {"execution_id": "e1"})
    stage.quiet()

    assert stage.tasks.names() == ["begin_execution", "settle_execution"]
    assert stage.run("e1")["transitions"] <= 3


def test_an_execution_that_is_failed_from_outside_is_settled(execution: Stage) -> None:
    execution.workflow.fail(execution.tasks.token("begin_execution"), "Lost", "no machine was ever found")
    execution.quiet()

    assert execution.calls[-1] == {"task": "settle_execution", "execution_id": "e1"}
    assert execution.run("e1")["status"] == "succeeded"


def test_a_busy_control_plane_begins_the_execution_again_with_a_new_token(stage: Stage) -> None:
    stage.tasks.failures["begin_execution"] = [Throttled("slow down"), Unavailable("away")]

    stage.workflow.start("execution", "e1", {"execution_id": "e1"})
    stage.pass_time(10)

    assert stage.tasks.names() == ["begin_execution"] * 3
    assert len({call["task_token"] for call in stage.calls}) == 3


def test_an_execution_is_settled_before_step_functions_would_forget_it(execution: Stage) -> None:
    execution.clock.advance(360 * DAY)
    execution.quiet()

    assert execution.tasks.names() == ["begin_execution", "settle_execution"]


def test_settling_is_repeated_until_it_succeeds(execution: Stage) -> None:
    execution.tasks.failures["settle_execution"] = [RuntimeError("a fault of ours")] * 7
    execution.workflow.resume(execution.tasks.token("begin_execution"), {})

    execution.pass_time(300)

    assert execution.run("e1")["status"] == "succeeded"
    assert execution.run("e1")["repeats"] == 7


# --- machine --------------------------------------------------------------------------------------------------------


def test_a_machine_is_launched_watched_put_out_and_settled(machine: Stage) -> None:
    launch = machine.tasks.token("launch_machine")
    machine.workflow.resume(launch, {})
    machine.quiet()
    watch = machine.tasks.token("watch_machine")
    machine.clock.advance(30 * DAY)
    machine.quiet()

    machine.workflow.resume(watch, {})
    machine.quiet()

    assert machine.calls == [
        {"task": "launch_machine", "machine_id": "m1", "task_token": launch},
        {"task": "watch_machine", "machine_id": "m1", "task_token": watch},
        {"task": "put_out_machine", "machine_id": "m1", "reason": "retired"},
        {"task": "settle_machine", "machine_id": "m1"},
    ]
    assert machine.run("m1")["status"] == "succeeded"
    assert machine.run("m1")["transitions"] <= 5


def test_a_machine_that_does_not_register_within_the_boot_limit_is_put_out(machine: Stage) -> None:
    machine.clock.advance(299)
    machine.quiet()
    before = machine.tasks.names()

    machine.clock.advance(1)
    machine.quiet()

    assert before == ["launch_machine"]
    assert machine.calls[1] == {"task": "put_out_machine", "machine_id": "m1", "reason": "States.Timeout"}
    assert machine.tasks.names()[-1] == "settle_machine"
    assert machine.run("m1")["transitions"] <= 5


@pytest.mark.parametrize(
    "fault", [NoCapacity("none left"), LaunchRefused("no such image"), ValueError("a fault of ours")]
)
def test_a_launch_that_fails_is_not_repeated_but_put_out(stage: Stage, fault: Exception) -> None:
    stage.tasks.failures["launch_machine"] = [fault]

    stage.workflow.start("machine", "m1", {"machine_id": "m1", "boot_seconds": 300})
    stage.quiet()

    assert stage.tasks.names() == ["launch_machine", "put_out_machine", "settle_machine"]
    assert stage.calls[1]["reason"] == type(fault).__name__
    assert stage.run("m1")["transitions"] <= 5


def test_a_machine_without_a_boot_limit_is_put_out(stage: Stage) -> None:
    stage.workflow.start("machine", "m1", {"machine_id": "m1"})
    stage.quiet()

    assert stage.tasks.names() == ["put_out_machine", "settle_machine"]


def test_a_machine_that_is_lost_is_put_out_for_that_reason(machine: Stage) -> None:
    machine.workflow.resume(machine.tasks.token("launch_machine"), {})
    machine.quiet()

    machine.workflow.fail(machine.tasks.token("watch_machine"), "MachineLost", "no heartbeat")
    machine.quiet()

    assert machine.tasks.last("put_out_machine")["reason"] == "MachineLost"
    assert machine.run("m1")["status"] == "succeeded"


def test_a_machine_is_put_out_again_until_the_cloud_says_that_it_is_gone(machine: Stage) -> None:
    machine.tasks.failures["put_out_machine"] = [NotYet("stopping")] * 3
    machine.workflow.fail(machine.tasks.token("launch_machine"), "LaunchRefused", "")

    machine.pass_time(60)

    assert machine.tasks.names() == ["launch_machine", *["put_out_machine"] * 4, "settle_machine"]
    assert machine.run("m1")["transitions"] <= 5
    assert machine.run("m1")["repeats"] == 3


def test_a_machine_that_may_still_run_is_never_settled(machine: Stage) -> None:
    machine.tasks.failures["put_out_machine"] = [NotYet("stopping")] * 10_000
    machine.workflow.fail(machine.tasks.token("launch_machine"), "LaunchRefused", "")
    machine.quiet()

    while machine.run("m1")["status"] == "running":
        machine.clock.advance(30)
        machine.quiet()

    assert "settle_machine" not in machine.tasks.names()
    assert machine.run("m1")["status"] == "failed"
    assert machine.run("m1")["error"] == "NotYet"
