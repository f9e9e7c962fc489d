"""Decides what a state machine definition does next; it does nothing itself and knows neither clock nor journal.

The language is the part of the Amazon States Language that `state_machines/README.md` states and `subset.py` checks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from adapters.workflow.expressions import QueryFault, evaluate
from lamplighter.ports import Json

INVOKE = "arn:aws:states:::lambda:invoke"
INVOKE_AND_WAIT = "arn:aws:states:::lambda:invoke.waitForTaskToken"

MAX_DATA_BYTES = 65_536
"""Input, output, argument and variables of a state, each, as JSON. Step Functions allows 256 KiB; ids need far less, and
a run with all four must fit into one record of the journal."""

MAX_CAUSE_CHARACTERS = 32_768
MAX_DELAY_SECONDS = 31_622_400
MAX_WAIT_SECONDS = 99_999_999

TIMEOUT = "States.Timeout"
_RUNTIME = "States.Runtime"
_DATA_LIMIT = "States.DataLimitExceeded"
_QUERY = "States.QueryEvaluationError"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands. `retries` counts, per retrier of the state, how often it was used since the state was entered."""

    state: str
    input: Any
    variables: Json = field(default_factory=dict)
    retries: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """Call the tasks function with `payload`; if `waits`, the state ends by its token, or by a timeout after `seconds`."""

    payload: Any
    waits: bool
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Complete the state `seconds` after it was entered."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Move:
    """Enter another state."""

    position: Position


@dataclass(frozen=True, slots=True)
class Again:
    """Try the same state again, `seconds` from now."""

    retries: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """The run has ended."""

    status: Literal["succeeded", "failed"]
    output: Any = None
    error: str = ""
    cause: str = ""


Outcome = Move | Again | End


class _StateFault(Exception):
    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


def begin(definition: Json, argument: Json) -> Position:
    """The first state, with the argument as its input."""
    return Position(definition["StartAt"], argument)


def needs_token(definition: Json, state: str) -> bool:
    """Whether the state is ended by a token, which must exist before the state acts."""
    return bool(definition["States"].get(state, {}).get("Resource") == INVOKE_AND_WAIT)


def act(definition: Json, position: Position, context: Json) -> Call | Sleep | Outcome:
    """What the state at `position` asks for. The same arguments always give the same answer, so it may be asked again."""
    try:
        return _act(_state(definition, position), position, _scope(position, context))
    except _StateFault as fault_:
        return fault(definition, position, context, fault_.error, fault_.cause)


def complete(definition: Json, position: Position, context: Json, result: Any) -> Outcome:
    """What follows when the state at `position` ends well, with `result`."""
    try:
        state = _state(definition, position)
        return _leave(state, position, _scope(position, context, result=result), result)
    except _StateFault as fault_:
        return fault(definition, position, context, fault_.error, fault_.cause)


def fault(definition: Json, position: Position, context: Json, error: str, cause: str) -> Outcome:
    """What follows when the state at `position` fails: its Retry, then its Catch, then the end of the run."""
    error_output = {"Error": error, "Cause": cause[:MAX_CAUSE_CHARACTERS]}
    try:
        state = _state(definition, position)
        again = _retry(state, position, error)
        if again:
            return again
        for catcher in state.get("Catch", ()):
            if _matches(error, catcher["ErrorEquals"]):
                return _leave(catcher, position, _scope(position, context, errorOutput=error_output), error_output)
    except _StateFault as second:
        return End("failed", error=second.error, cause=second.cause)
    return End("failed", error=error, cause=error_output["Cause"])


def size_fault(value: Any) -> str | None:
    """Why `value` cannot travel through a workflow, or None."""
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        return f"it is no JSON value: {error}"
    if size <= MAX_DATA_BYTES:
        return None
    return f"it has {size} bytes and {MAX_DATA_BYTES} are allowed: pass an id instead"


def _act(state: Json, position: Position, scope: Json) -> Call | Sleep | Outcome:
    kind = state["Type"]
    if kind == "Task":
        return _call(state, scope)
    if kind == "Wait":
        return Sleep(_seconds(state["Seconds"], scope, least=0))
    if kind == "Choice":
        return _choose(state, position, scope)
    if kind == "Fail":
        texts = _filled({name: state.get(name, "") for name in ("Error", "Cause")}, scope)
        return End("failed", error=str(texts["Error"]), cause=str(texts["Cause"]))
    return _leave(state, position, scope, position.input)


def _call(state: Json, scope: Json) -> Call:
    limit = state.get("TimeoutSeconds")
    seconds = None if limit is None else _seconds(limit, scope, least=1)
    arguments = _filled(state["Arguments"], scope)
    return Call(arguments.get("Payload", {}), state["Resource"] == INVOKE_AND_WAIT, seconds)


def _choose(state: Json, position: Position, scope: Json) -> Outcome:
    for rule in state["Choices"]:
        chosen = _filled(rule["Condition"], scope)
        if not isinstance(chosen, bool):
            raise _StateFault(_QUERY, f"the condition {rule['Condition']} gave {chosen!r}: it must be true or false")
        if chosen:
            return _leave(rule, position, scope, position.input)
    if "Default" not in state:
        raise _StateFault("States.NoChoiceMatched", f"no choice of the state {position.state} applies to its input")
    return Move(Position(state["Default"], position.input, position.variables))


def _leave(rule: Json, position: Position, scope: Json, otherwise: Any) -> Outcome:
    """Follow a state, a catcher or a choice: all expressions see the variables as they were before."""
    output = _filled(rule["Output"], scope) if "Output" in rule else otherwise
    variables = {**position.variables, **_filled(rule.get("Assign", {}), scope)}
    for what, value in (("the output", output), ("the variables", variables)):
        reason = size_fault(value)
        if reason:
            raise _StateFault(_DATA_LIMIT, f"{what} of the state {position.state} cannot be kept: {reason}")
    if "Next" in rule:
        return Move(Position(rule["Next"], output, variables))
    return End("succeeded", output=output)


def _retry(state: Json, position: Position, error: str) -> Again | None:
    retriers = state.get("Retry", ())
    used = list(position.retries) or [0] * len(retriers)
    for index, retrier in enumerate(retriers):
        if not _matches(error, retrier["ErrorEquals"]):
            continue
        if used[index] >= retrier.get("MaxAttempts", 3):
            return None
        # Beyond 64 steps every delay has met its limit, and the power would overflow.
        delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** min(used[index], 64)
        used[index] += 1
        return Again(tuple(used), min(delay, retrier.get("MaxDelaySeconds", MAX_DELAY_SECONDS)))
    return None


def _matches(error: str, names: Sequence[str]) -> bool:
    if error == _RUNTIME:
        return False
    if error in names:
        return True
    if "States.ALL" in names:
        return error != _DATA_LIMIT
    return "States.TaskFailed" in names and error not in (TIMEOUT, _DATA_LIMIT)


def _state(definition: Json, position: Position) -> Json:
    state = definition["States"].get(position.state)
    if not isinstance(state, Mapping):
        raise _StateFault(_RUNTIME, f"the definition has no state {position.state}")
    return state


def _scope(position: Position, context: Json, **more: Any) -> Json:
    return {**position.variables, "states": {"input": position.input, "context": context, **more}}


def _filled(template: Any, scope: Json) -> Any:
    try:
        return evaluate(template, scope)
    except QueryFault as error:
        raise _StateFault(_QUERY, str(error)) from error


def _seconds(template: Any, scope: Json, *, least: int) -> int:
    seconds = _filled(template, scope)
    if isinstance(seconds, int) and not isinstance(seconds, bool) and least <= seconds <= MAX_WAIT_SECONDS:
        return seconds
    raise _StateFault(_QUERY, f"{template} gave {seconds!r}, not whole seconds from {least} to {MAX_WAIT_SECONDS}")
