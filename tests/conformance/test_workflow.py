"""Every promise of the Workflow port, asked of every adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from adapters.metadata.memory import MemoryMetadata
from adapters.metadata.sqlite import SqliteMetadata
from lamplighter.errors import AlreadyExists, NotFound, Unavailable
from lamplighter.ports import Json, Workflow
from tests.state_machines.stage import Stage, Tasks

INVOKE = "arn:aws:states:::lambda:invoke"


def told(error: str) -> Json:
    payload = {
        "task": "tell",
        "about": "{% $states.input.about %}",
        "answer": "{% $states.input.answer %}",
        "error": error,
    }
    return {
        "Type": "Task",
        "Resource": INVOKE,
        "Arguments": {"FunctionName": "${TasksFunctionArn}", "Payload": payload},
        "End": True,
    }


ASK: Json = {
    "Comment": "Asks, waits for the answer, and tells what became of it.",
    "QueryLanguage": "JSONata",
    "StartAt": "Ask",
    "States": {
        "Ask": {
            "Type": "Task",
            "Resource": f"{INVOKE}.waitForTaskToken",
            "Arguments": {
                "FunctionName": "${TasksFunctionArn}",
                "Payload": {
                    "task": "ask",
                    "about": "{% $states.input.about %}",
                    "task_token": "{% $states.context.Task.Token %}",
                },
            },
            "TimeoutSeconds": "{% $states.input.seconds %}",
            "Retry": [{"ErrorEquals": ["Unavailable"], "IntervalSeconds": 1, "BackoffRate": 1, "MaxAttempts": 2}],
            "Catch": [
                {
                    "ErrorEquals": ["States.ALL"],
                    "Output": "{% $merge([$states.input, {'answer': $states.errorOutput.Error}]) %}",
                    "Next": "TellFault",
                }
            ],
            "Output": "{% $merge([$states.input, {'answer': $states.result.answer}]) %}",
            "Next": "Tell",
        },
        "Tell": told("no"),
        "TellFault": told("yes"),
    },
}
DEFINITIONS = {"ask": ASK, "ask-again": ASK}
ARGUMENT = {"about": "lamps", "seconds": 5}
ANSWERED = {"task": "tell", "about": "lamps", "answer": "lit", "error": "no"}


class Rig(Protocol):
    """What the suite needs around an adapter."""

    @property
    def workflow(self) -> Workflow: ...

    @property
    def tasks(self) -> Tasks: ...

    def quiet(self) -> object:
        """Return once nothing more happens until time passes or somebody acts."""

    def pass_time(self, seconds: int) -> None:
        """Let the workflow's time pass, and be quiet again."""


EMBEDDED: dict[str, Callable[[Path], Rig]] = {
    "embedded-memory": lambda _folder: Stage(MemoryMetadata(), DEFINITIONS),
    "embedded-sqlite": lambda folder: Stage(SqliteMetadata(folder / "metadata.db"), DEFINITIONS),
}


@pytest.fixture(params=[*sorted(EMBEDDED), "step_functions"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, emulated_stages: Callable[[Mapping[str, Json]], Rig]) -> Rig:
    return EMBEDDED[request.param](tmp_path) if request.param in EMBEDDED else emulated_stages(DEFINITIONS)


@pytest.fixture
def asked(rig: Rig) -> Rig:
    """A flow that waits for its answer."""
    rig.workflow.start("ask", "f1", ARGUMENT)
    rig.quiet()
    return rig


def tellings(rig: Rig) -> list[Json]:
    return [call for call in rig.tasks.calls if call["task"] == "tell"]


# --- Start ----------------------------------------------------------------------------------------------------------


def test_a_started_flow_calls_its_first_task_with_a_token(rig: Rig) -> None:
    rig.workflow.start("ask", "f1", ARGUMENT)
    rig.quiet()

    [call] = rig.tasks.calls
    assert call["about"] == "lamps"
    assert call["task_token"]


def test_a_second_start_with_the_same_argument_does_nothing(asked: Rig) -> None:
    asked.workflow.start("ask", "f1", {"seconds": 5, "about": "lamps"})
    asked.quiet()

    assert asked.tasks.names() == ["ask"]


def test_a_start_of_a_flow_that_has_ended_does_nothing(asked: Rig) -> None:
    asked.workflow.resume(asked.tasks.token("ask"), {"answer": "lit"})
    asked.quiet()

    asked.workflow.start("ask", "f1", ARGUMENT)
    asked.quiet()

    assert asked.tasks.names() == ["ask", "tell"]


def test_a_name_is_refused_for_another_argument(asked: Rig) -> None:
    with pytest.raises(AlreadyExists, match="f1"):
        asked.workflow.start("ask", "f1", {**ARGUMENT, "about": "wicks"})
    asked.quiet()

    assert asked.tasks.names() == ["ask"]


def test_a_name_is_refused_for_another_argument_when_the_flow_has_ended(asked: Rig) -> None:
    asked.workflow.stop("f1", "enough")

    with pytest.raises(AlreadyExists):
        asked.workflow.start("ask", "f1", {**ARGUMENT, "about": "wicks"})


def test_an_unknown_definition_is_not_found(rig: Rig) -> None:
    with pytest.raises(NotFound, match="no-such"):
        rig.workflow.start("no-such", "f1", ARGUMENT)


def test_flows_do_not_mix(asked: Rig) -> None:
    asked.workflow.start("ask-again", "f2", {"about": "wicks", "seconds": 5})
    asked.quiet()

    asked.workflow.resume(asked.tasks.token("ask"), {"answer": "trimmed"})
    asked.quiet()

    assert tellings(asked) == [{"task": "tell", "about": "wicks", "answer": "trimmed", "error": "no"}]


# --- Answers --------------------------------------------------------------------------------------------------------


def test_an_answer_moves_the_flow_on(asked: Rig) -> None:
    asked.workflow.resume(asked.tasks.token("ask"), {"answer": "lit"})
    asked.quiet()

    assert tellings(asked) == [ANSWERED]


def test_an_answer_given_while_the_task_is_still_being_called_counts(rig: Rig) -> None:
    rig.tasks.reactions["ask"] = lambda call: rig.workflow.resume(call["task_token"], {"answer": "lit"})

    rig.workflow.start("ask", "f1", ARGUMENT)
    rig.quiet()

    assert tellings(rig) == [ANSWERED]


def test_a_second_answer_is_ignored(asked: Rig) -> None:
    token = asked.tasks.token("ask")
    asked.workflow.resume(token, {"answer": "lit"})

    asked.workflow.resume(token, {"answer": "out"})
    asked.workflow.fail(token, "Broken", "the wick")
    asked.quiet()

    assert tellings(asked) == [ANSWERED]


def test_a_failure_can_be_caught_by_its_name(asked: Rig) -> None:
    token = asked.tasks.token("ask")

    asked.workflow.fail(token, "Broken", "the wick")
    asked.workflow.fail(token, "Broken", "the wick")
    asked.workflow.resume(token, {"answer": "lit"})
    asked.quiet()

    assert tellings(asked) == [{**ANSWERED, "answer": "Broken", "error": "yes"}]


def test_a_task_that_raises_fails_its_state_under_the_name_of_the_exception(rig: Rig) -> None:
    rig.tasks.failures["ask"] = [LookupError("no lamp")]

    rig.workflow.start("ask", "f1", ARGUMENT)
    rig.quiet()

    assert tellings(rig) == [{**ANSWERED, "answer": "LookupError", "error": "yes"}]


def test_a_repeated_state_has_a_new_token_and_the_old_one_is_void(rig: Rig) -> None:
    rig.tasks.failures["ask"] = [Unavailable("away")]
    rig.workflow.start("ask", "f1", ARGUMENT)
    rig.quiet()
    rig.pass_time(2)
    first, second = (call["task_token"] for call in rig.tasks.calls)

    rig.workflow.resume(first, {"answer": "out"})
    rig.workflow.resume(second, {"answer": "lit"})
    rig.quiet()

    assert first != second
    assert tellings(rig) == [ANSWERED]


def test_an_unknown_token_is_no_error(asked: Rig) -> None:
    asked.workflow.resume("never-given", {"answer": "lit"})
    asked.workflow.fail("never-given", "Broken", "")
    asked.quiet()

    assert asked.tasks.names() == ["ask"]


# --- Time -----------------------------------------------------------------------------------------------------------


def test_a_state_without_an_answer_times_out(asked: Rig) -> None:
    asked.pass_time(6)

    assert tellings(asked) == [{**ANSWERED, "answer": "States.Timeout", "error": "yes"}]


def test_an_answer_after_the_timeout_is_ignored(asked: Rig) -> None:
    asked.pass_time(6)

    asked.workflow.resume(asked.tasks.token("ask"), {"answer": "lit"})
    asked.quiet()

    assert len(tellings(asked)) == 1


def test_an_answered_state_does_not_time_out(asked: Rig) -> None:
    asked.workflow.resume(asked.tasks.token("ask"), {"answer": "lit"})
    asked.pass_time(6)

    assert tellings(asked) == [ANSWERED]


# --- Stop -----------------------------------------------------------------------------------------------------------


def test_a_stopped_flow_does_nothing_more(asked: Rig) -> None:
    asked.workflow.stop("f1", "enough")
    asked.workflow.stop("f1", "enough")

    asked.workflow.resume(asked.tasks.token("ask"), {"answer": "lit"})
    asked.workflow.fail(asked.tasks.token("ask"), "Broken", "")
    asked.pass_time(6)

    assert asked.tasks.names() == ["ask"]


def test_a_flow_that_never_was_can_be_stopped(rig: Rig) -> None:
    rig.workflow.stop("f1", "enough")
    rig.quiet()

    assert rig.tasks.calls == []


def test_a_flow_stopped_while_its_task_is_being_called_stays_stopped(rig: Rig) -> None:
    rig.tasks.reactions["ask"] = lambda _call: rig.workflow.stop("f1", "enough")

    rig.workflow.start("ask", "f1", ARGUMENT)
    rig.pass_time(6)

    assert rig.tasks.names() == ["ask"]
