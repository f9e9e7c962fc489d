"""The language of the state machines, as far as we speak it, and the checker that refuses the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from adapters.metadata.memory import MemoryMetadata
from adapters.workflow.subset import check_subset
from lamplighter.errors import Invalid, TooLarge
from lamplighter.ports import Json
from tests.state_machines.stage import DEFINITIONS, Stage

INVOKE = "arn:aws:states:::lambda:invoke"


def call(payload: Json, **more: Any) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": INVOKE,
        "Arguments": {"FunctionName": "${TasksFunctionArn}", "Payload": payload},
        **({"End": True} if "Next" not in more else {}),
        **more,
    }


def machine(first: str, **states: Json) -> Json:
    return {"QueryLanguage": "JSONata", "StartAt": first, "States": states}


def ended(definition: Json, argument: Json, *, seconds: int = 0, **reactions: Any) -> tuple[Json, Stage]:
    """The run of this definition after some time, and the stage it was on."""
    stage = Stage(MemoryMetadata(), {"it": definition})
    stage.tasks.reactions.update(reactions)
    stage.workflow.start("it", "r", argument)
    stage.quiet()
    stage.pass_time(seconds)
    return stage.run("r"), stage


# --- States ---------------------------------------------------------------------------------------------------------


def test_a_task_gives_what_lambda_gives() -> None:
    run, _ = ended(machine("A", A=call({"task": "t"})), {}, t=lambda _call: {"found": [1, None, True]})

    assert run["output"] == {"Payload": {"found": [1, None, True]}, "StatusCode": 200, "ExecutedVersion": "$LATEST"}


def test_variables_are_assigned_when_a_state_is_left_and_outlive_it() -> None:
    definition = machine(
        "A",
        A={"Type": "Pass", "Assign": {"n": "{% $states.input.n + 1 %}"}, "Output": {}, "Next": "B"},
        B={"Type": "Pass", "Assign": {"n": "{% $n * 10 %}"}, "Output": {"seen": "{% $n %}"}, "Next": "C"},
        C={"Type": "Succeed", "Output": {"seen": "{% $states.input.seen %}", "now": "{% $n %}"}},
    )

    run, _ = ended(definition, {"n": 1})

    assert run["output"] == {"seen": 2, "now": 20}


@pytest.mark.parametrize(("size", "end"), [(1, "small"), (5, "large"), (100, "huge")])
def test_a_choice_follows_the_first_condition_that_holds(size: int, end: str) -> None:
    definition = machine(
        "A",
        A={
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $states.input.size < 3 %}", "Next": "Tell", "Output": {"end": "small"}},
                {"Condition": "{% $states.input.size < 9 %}", "Next": "Tell", "Output": {"end": "large"}},
            ],
            "Default": "Huge",
        },
        Huge={"Type": "Pass", "Output": {"end": "huge"}, "Next": "Tell"},
        Tell={"Type": "Succeed"},
    )

    run, _ = ended(definition, {"size": size})

    assert run["output"] == {"end": end}


def test_a_choice_without_a_way_on_fails() -> None:
    choice = {"Type": "Choice", "Choices": [{"Condition": "{% $states.input.a %}", "Next": "B"}]}

    run, _ = ended(machine("A", A=choice, B={"Type": "Succeed"}), {"a": False})

    assert run["error"] == "States.NoChoiceMatched"


def test_a_condition_that_is_neither_true_nor_false_fails() -> None:
    choice = {"Type": "Choice", "Choices": [{"Condition": "{% $states.input.a %}", "Next": "B"}], "Default": "B"}

    run, _ = ended(machine("A", A=choice, B={"Type": "Succeed"}), {"a": 1})

    assert run["error"] == "States.QueryEvaluationError"


def test_a_wait_lasts_as_long_as_it_says() -> None:
    wait = {"Type": "Wait", "Seconds": "{% $states.input.seconds %}", "Next": "T"}
    definition = machine("A", A=wait, T=call({"task": "t"}))

    early, _ = ended(definition, {"seconds": 3}, seconds=2)
    late, stage = ended(definition, {"seconds": 3}, seconds=3)

    assert early["state"] == "A"
    assert late["status"] == "succeeded"
    assert stage.tasks.names() == ["t"]


def test_a_fail_state_names_its_error() -> None:
    definition = machine("A", A={"Type": "Fail", "Error": "Dark", "Cause": "{% 'no ' & $states.input.what %}"})

    run, _ = ended(definition, {"what": "oil"})

    assert (run["status"], run["error"], run["cause"]) == ("failed", "Dark", "no oil")


# --- Faults ---------------------------------------------------------------------------------------------------------


def failing(*errors: type[Exception]) -> Any:
    """A task that raises these one after the other, then succeeds."""
    left = list(errors)

    def react(_call: Json) -> str:
        if left:
            raise left.pop(0)("no")
        return "done"

    return react


def test_retries_wait_longer_each_time_up_to_their_limit() -> None:
    retry = [
        {"ErrorEquals": ["OSError"], "IntervalSeconds": 2, "BackoffRate": 3, "MaxDelaySeconds": 10, "MaxAttempts": 3}
    ]
    stage = Stage(MemoryMetadata(), {"it": machine("A", A=call({"task": "t"}, Retry=retry))})
    began = stage.clock()
    fail = failing(OSError, OSError, OSError)
    seconds: list[float] = []

    def react(payload: Json) -> str:
        seconds.append((stage.clock() - began).total_seconds())
        return str(fail(payload))

    stage.tasks.reactions["t"] = react
    stage.workflow.start("it", "r", {})

    stage.quiet()
    stage.pass_time(30)

    assert seconds == [0, 2, 8, 18]
    assert stage.run("r")["status"] == "succeeded"


def test_retriers_count_apart_and_an_exhausted_one_gives_way_to_the_catch() -> None:
    retry = [
        {"ErrorEquals": ["KeyError"], "MaxAttempts": 1, "IntervalSeconds": 1},
        {"ErrorEquals": ["States.ALL"], "MaxAttempts": 1, "IntervalSeconds": 1},
    ]
    catch = [{"ErrorEquals": ["KeyError"], "Next": "B", "Assign": {"error": "{% $states.errorOutput.Error %}"}}]
    definition = machine(
        "A", A=call({"task": "t"}, Retry=retry, Catch=catch), B={"Type": "Succeed", "Output": "{% $error %}"}
    )

    run, stage = ended(definition, {}, seconds=10, t=failing(KeyError, OSError, KeyError))

    assert len(stage.calls) == 3
    assert run["output"] == "KeyError"


@pytest.mark.parametrize(
    ("name", "error", "caught"),
    [
        ("States.TaskFailed", "Anything", True),
        ("States.TaskFailed", "States.Timeout", False),
        ("States.Timeout", "States.Timeout", True),
        ("States.ALL", "States.Timeout", True),
        ("States.ALL", "States.Runtime", False),
        ("States.ALL", "States.DataLimitExceeded", False),
        ("Other", "Anything", False),
    ],
)
def test_the_reserved_error_names_match_as_step_functions_says(name: str, error: str, caught: bool) -> None:
    definition = machine(
        "A",
        A=call(
            {"task": "t", "token": "{% $states.context.Task.Token %}"},
            Resource=f"{INVOKE}.waitForTaskToken",
            Catch=[{"ErrorEquals": [name], "Next": "B"}],
        ),
        B={"Type": "Succeed"},
    )
    _, stage = ended(definition, {})

    stage.workflow.fail(stage.tasks.last("t")["token"], error, "why")
    stage.quiet()

    run = stage.run("r")
    assert run["status"] == ("succeeded" if caught else "failed")
    assert (run["output"] == {"Error": error, "Cause": "why"}) is caught


@pytest.mark.parametrize("expression", ["{% $states.input.nope %}", "{% $nope %}", "{% $states.input + 1 %}"])
def test_an_expression_that_gives_nothing_fails_rather_than_travel_as_null(expression: str) -> None:
    run, stage = ended(machine("A", A=call({"task": "t", "x": expression})), {})

    assert run["error"] == "States.QueryEvaluationError"
    assert stage.calls == []


def test_a_null_is_a_value() -> None:
    run, _ = ended(machine("A", A={"Type": "Pass", "Output": "{% $states.input.n %}", "End": True}), {"n": None})

    assert (run["status"], run["output"]) == ("succeeded", None)


def test_payloads_do_not_travel_through_a_workflow() -> None:
    definition = machine("A", A=call({"task": "t"}))

    run, stage = ended(definition, {}, t=lambda _call: "x" * 70_000)

    assert run["error"] == "States.DataLimitExceeded"
    with pytest.raises(TooLarge, match="pass an id"):
        stage.workflow.start("it", "r2", {"x": "x" * 70_000})


# --- The checker ----------------------------------------------------------------------------------------------------


def broken(path: str, value: Any) -> Json:
    """The machine definition with one thing changed: `States.Work.Type`, or `-` in front to remove it."""
    definition = copy.deepcopy(dict(DEFINITIONS["machine"]))
    *way, last = path.lstrip("-").split(".")
    part: Any = definition
    for name in way:
        part = part[int(name) if name.isdigit() else name]
    if path.startswith("-"):
        del part[last]
    else:
        part[last] = value
    return definition


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("QueryLanguage", "JSONPath", "QueryLanguage must be JSONata"),
        ("TimeoutSeconds", 5, "may not have TimeoutSeconds"),
        ("StartAt", "Nowhere", "Nowhere"),
        ("States.Work.Type", "Parallel", "Work: the type Parallel"),
        ("States.Work.ResultPath", "$.x", "Work: a Task state may not have ResultPath"),
        ("States.Work.HeartbeatSeconds", 5, "HeartbeatSeconds"),
        ("States.Work.Next", "Nowhere", "Work: it leads to Nowhere"),
        ("States.Work.End", True, "exactly one of Next and End"),
        ("-States.Settle.End", None, "exactly one of Next and End"),
        ("States.Work.Resource", "arn:aws:states:::dynamodb:putItem", "Work: the resource"),
        ("-States.Work.Arguments", None, "Arguments is missing"),
        ("States.PutOut.TimeoutSeconds", 5, "only for states that wait"),
        ("States.Work.Arguments.Payload", {"task": "t"}, "Task.Token"),
        ("States.Work.Output", "{% $merge( %}", "is no JSONata"),
        ("States.Work.Output", "{% $n ", "must start with"),
        ("States.PutOut.Retry.0.JitterStrategy", "FULL", "a retrier may not have JitterStrategy"),
        ("States.PutOut.Retry.0.ErrorEquals", ["States.ALL"], "States.ALL must stand alone"),
        ("-States.Work.Catch.0.Next", None, "a catcher needs a Next"),
        ("States.Lost", {"Type": "Succeed"}, "Lost: no way leads to it"),
        ("States", [], "States must be an object"),
    ],
)
def test_what_leaves_the_subset_is_named(path: str, value: Any, reason: str) -> None:
    definition = broken(path, value)

    reasons = check_subset(definition)

    assert any(reason in text for text in reasons), reasons


def test_a_definition_outside_the_subset_is_not_accepted() -> None:
    with pytest.raises(Invalid, match="Parallel"):
        Stage(MemoryMetadata(), {"machine": broken("States.Work.Type", "Parallel")})
