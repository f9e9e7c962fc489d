"""Finds what in a state machine definition lies outside the language that every one of our runners executes alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.workflow.asl import INVOKE, INVOKE_AND_WAIT
from adapters.workflow.expressions import QueryFault, compile_expression, is_expression
from lamplighter.ports import Json

_TOP = {"Comment", "QueryLanguage", "StartAt", "States"}
_ALWAYS = {"Type", "Comment"}
_ENDING = {"Assign", "Output", "Next", "End"}
_FIELDS = {
    "Task": _ALWAYS | _ENDING | {"Resource", "Arguments", "TimeoutSeconds", "Retry", "Catch"},
    "Pass": _ALWAYS | _ENDING,
    "Wait": _ALWAYS | _ENDING | {"Seconds"},
    "Choice": _ALWAYS | {"Choices", "Default"},
    "Succeed": _ALWAYS | {"Output"},
    "Fail": _ALWAYS | {"Error", "Cause"},
}
_REQUIRED = {"Task": {"Resource", "Arguments"}, "Wait": {"Seconds"}, "Choice": {"Choices"}}
_RETRIER = {"Comment", "ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds"}
_CATCHER = {"Comment", "ErrorEquals", "Next", "Output", "Assign"}
_CHOICE = {"Comment", "Condition", "Next", "Output", "Assign"}


def check_subset(definition: Json) -> list[str]:
    """Every reason why the definition may not run, in words that name the state; empty if it may."""
    states = definition.get("States")
    if not isinstance(states, Mapping) or not all(isinstance(state, Mapping) for state in states.values()):
        return ["States must be an object of objects"]
    return [
        *_foreign("the definition", definition, _TOP),
        *_top(definition, states),
        *(f"{name}: {reason}" for name, state in states.items() for reason in _state(state, states)),
        *_unreachable(definition, states),
    ]


def _top(definition: Json, states: Json) -> Iterator[str]:
    if definition.get("QueryLanguage") != "JSONata":
        yield "QueryLanguage must be JSONata"
    if definition.get("StartAt") not in states:
        yield f"StartAt names the state {definition.get('StartAt')}, which does not exist"
    if not any(state.get("End") is True or state.get("Type") in ("Succeed", "Fail") for state in states.values()):
        yield "no state ends the run"


def _state(state: Json, states: Json) -> Iterator[str]:
    kind = str(state.get("Type"))
    if kind not in _FIELDS:
        yield f"the type {kind} is not one of {', '.join(_FIELDS)}"
        return
    yield from _foreign(f"a {kind} state", state, _FIELDS[kind])
    yield from (f"{field} is missing" for field in sorted(_REQUIRED.get(kind, set()) - state.keys()))
    if "Next" in _FIELDS[kind] and ("Next" in state) == (state.get("End") is True):
        yield "exactly one of Next and End is needed"
    yield from (f"it leads to {target}, which does not exist" for target in _targets(state) if target not in states)
    yield from _expressions(state)
    if kind == "Task":
        yield from _task(state)
    for rule in _rules(state, "Choices"):
        yield from _foreign("a choice", rule, _CHOICE)
        if not is_expression(rule.get("Condition")) or "Next" not in rule:
            yield "a choice needs a Condition that is an expression, and a Next"


def _task(state: Json) -> Iterator[str]:
    if state.get("Resource") not in (INVOKE, INVOKE_AND_WAIT):
        yield f"the resource {state.get('Resource')} is neither {INVOKE} nor its waitForTaskToken form"
    arguments = state.get("Arguments")
    if not isinstance(arguments, Mapping) or arguments.keys() != {"FunctionName", "Payload"}:
        yield "Arguments must be an object of FunctionName and Payload"
    if (state.get("Resource") == INVOKE_AND_WAIT) != ("$states.context.Task.Token" in str(arguments)):
        yield "the payload must hold $states.context.Task.Token if, and only if, the state waits for it"
    if "TimeoutSeconds" in state and state.get("Resource") == INVOKE:
        yield "TimeoutSeconds is only for states that wait: the function has a limit of its own"
    yield from _handlers(state, "Retry", "a retrier", _RETRIER)
    yield from _handlers(state, "Catch", "a catcher", _CATCHER)
    if any("Next" not in rule for rule in _rules(state, "Catch")):
        yield "a catcher needs a Next"


def _handlers(state: Json, field: str, what: str, allowed: set[str]) -> Iterator[str]:
    rules = _rules(state, field)
    for rule in rules:
        yield from _foreign(what, rule, allowed)
        names = rule.get("ErrorEquals")
        if not isinstance(names, list) or not names:
            yield f"{what} needs ErrorEquals with at least one name"
        elif "States.ALL" in names and (len(names) > 1 or rule is not rules[-1]):
            yield f"States.ALL must stand alone, in the last entry of {field}"


def _expressions(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        for value in part.values():
            yield from _expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from _expressions(value)
    elif isinstance(part, str) and (part.startswith("{%") or part.endswith("%}")):
        yield from _expression(part)


def _expression(text: str) -> Iterator[str]:
    if not is_expression(text):
        yield f"{text} must start with {{% and end with %}}"
        return
    try:
        compile_expression(text)
    except QueryFault as error:
        yield str(error)


def _foreign(what: str, part: Json, allowed: set[str]) -> Iterator[str]:
    yield from (f"{what} may not have {field}" for field in part if field not in allowed)


def _rules(state: Json, field: str) -> list[Json]:
    return [rule for rule in state.get(field, ()) if isinstance(rule, Mapping)]


def _targets(state: Json) -> list[str]:
    rules = [state, *_rules(state, "Catch"), *_rules(state, "Choices")]
    return [rule[field] for rule in rules for field in ("Next", "Default") if field in rule]


def _unreachable(definition: Json, states: Json) -> Iterator[str]:
    seen: set[str] = set()
    ahead = [str(definition.get("StartAt"))]
    while ahead:
        name = ahead.pop()
        if name in states and name not in seen:
            seen.add(name)
            ahead.extend(_targets(states[name]))
    yield from (f"{name}: no way leads to it" for name in states if name not in seen)
