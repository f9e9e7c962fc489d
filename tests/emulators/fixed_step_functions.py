"""Step Functions as AWS documents it, where ministack 1.5.33 does something else.

Only what `state_machines/README.md` calls the subset is looked after: one state at a time, tasks that are Lambda functions.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import stepfunctions as sf

from tests.emulators.replacing import replace
from tests.emulators.timeline import ELAPSED, PASS_TIME, Timeline, Wait

Answer = tuple[int, Any, bytes]
Handler = Callable[[dict[str, Any]], Answer]

LONGEST_WAIT = 99_999_999
"""Seconds that a task may take when its state does not say."""

PATIENCE = 60
"""Real seconds within which the executions come to rest after held time was moved."""

_execution: contextvars.ContextVar[str] = contextvars.ContextVar("execution")
_tokens: dict[str, Wait] = {}


class Stopped(BaseException):
    """Ends the thread of an execution that was stopped: past every handler of errors, since it is none."""


@dataclass(frozen=True)
class Done:
    """A task succeeded, with this JSON text."""

    output: str


@dataclass(frozen=True)
class Failed:
    """A task failed."""

    error: str
    cause: str


def install(*, held_time: bool) -> None:
    """Put every fix of this module into ministack."""
    timeline = Timeline(held=held_time)
    _stop_for_good(timeline)
    _answer_tokens_once(timeline)
    _wait_in_time(timeline)
    replace(sf, "_start_execution", lambda original: _start(original, timeline))
    replace(sf, "_find_matching_retrier", _limit_delays)
    replace(sf, "handle_request", lambda original: _with_pass_time(original, timeline))


def _start(original: Handler, timeline: Timeline) -> Handler:
    """AWS: the same name and input again while the execution runs is the same start, and succeeds.

    ministack: ExecutionAlreadyExists.
    """

    def start(data: dict[str, Any]) -> Answer:
        with timeline.changed:
            answer = original(data)
            if answer[0] == 200:
                timeline.enter(json.loads(answer[2])["executionArn"])
                return answer
            return _same_start(data) or answer

    return start


def _same_start(data: dict[str, Any]) -> Answer | None:
    for arn, execution in sf._executions.items():
        same = (execution["stateMachineArn"], execution["name"], execution["input"]) == (
            data.get("stateMachineArn"),
            data.get("name"),
            data.get("input", "{}"),
        )
        if same and execution["status"] == "RUNNING":
            answer: Answer = json_response({"executionArn": arn, "startDate": execution["startDate"]})
            return answer
    return None


def _stop_for_good(timeline: Timeline) -> None:
    """AWS: a stopped execution does nothing more, and its history ends with that.

    ministack: its thread goes on to the end of its state, repeats tasks, adds to the history and may turn ABORTED into FAILED.
    """

    def run(original: Callable[[str], None]) -> Callable[[str], None]:
        def run_execution(arn: str) -> None:
            _execution.set(arn)
            try:
                original(arn)
            except Stopped:
                return
            finally:
                timeline.leave(arn)

        return run_execution

    def unless_stopped(original: Callable[..., Any]) -> Callable[..., Any]:
        def act(execution: dict[str, Any], *details: Any) -> Any:
            # The call that stops an execution comes from outside of its thread.
            if execution["status"] == "ABORTED" and _execution.get(None) == execution["executionArn"]:
                raise Stopped
            return original(execution, *details)

        return act

    def stop(original: Handler) -> Handler:
        def stop_execution(data: dict[str, Any]) -> Answer:
            answer = original(data)
            if answer[0] == 200:
                timeline.settle_execution(data["executionArn"], Stopped())
            return answer

        return stop_execution

    replace(sf, "_run_execution", run)
    replace(sf, "_add_event", unless_stopped)
    replace(sf, "_fail_execution", unless_stopped)
    replace(sf, "_stop_execution", stop)


def _answer_tokens_once(timeline: Timeline) -> None:
    """AWS: the first answer to a token counts; a token that is closed gives TaskTimedOut, one never given InvalidToken.

    ministack: later answers replace earlier ones, answers after a stop are accepted, anything else is TaskDoesNotExist.
    """

    def answering(outcome: Callable[[dict[str, Any]], object]) -> Callable[[Handler], Handler]:
        def make(original: Handler) -> Handler:
            def answer(data: dict[str, Any]) -> Answer:
                token = data.get("taskToken", "")
                if token in sf._task_tokens:
                    return original(data)
                if token not in _tokens:
                    return _refused("InvalidToken", "Invalid Token: 'Invalid token'")
                if not timeline.settle(_tokens[token], outcome(data)):
                    return _refused("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
                ok: Answer = json_response({})
                return ok

            return answer

        return make

    replace(sf, "_send_task_success", answering(lambda data: Done(data["output"])))
    replace(sf, "_send_task_failure", answering(lambda data: Failed(data.get("error", ""), data.get("cause", ""))))


def _refused(code: str, message: str) -> Answer:
    answer: Answer = error_response_json(code, message, 400)
    return answer


def _wait_in_time(timeline: Timeline) -> None:
    """AWS: each try of a waiting task has a token and a limit of its own; TimeoutSeconds may be an expression, counts from
    the moment when the task was scheduled, and a function that fails fails its task.

    ministack: one token for all tries, expressions in TimeoutSeconds break the execution, the limit counts from the
    function's answer, and a failing function is overlooked.
    """

    def arguments(original: Callable[..., Any]) -> Callable[..., Any]:
        def apply(state: dict[str, Any], given: Any, ctx: dict[str, Any]) -> Any:
            if not state.get("Resource", "").endswith("lambda:invoke.waitForTaskToken"):
                return original(state, given, ctx)
            limited = {"TimeoutSeconds": LONGEST_WAIT, **state}
            seconds = sf._jsonata_state_field(limited, "TimeoutSeconds", "number", given, ctx)
            token = ctx["Task"]["Token"] = str(uuid.uuid4())
            filled = original(state, given, ctx)
            _tokens[token] = Wait(timeline.now() + seconds, busy=True)
            return filled

        return apply

    def callback(original: Callable[..., Any]) -> Callable[..., Any]:
        def invoke(resource: str, given: Any, token: str, state: dict[str, Any]) -> Any:
            if token not in _tokens:
                return original(resource, given, token, state)
            wait = _tokens[token]
            here = contextvars.copy_context()
            Thread(target=here.run, args=(_call, timeline, wait, given), daemon=True).start()
            return _result(timeline.park(_execution.get(), wait))

        return invoke

    def sleep(_original: Callable[[float], None]) -> Callable[[float], None]:
        def pause(seconds: float) -> None:
            outcome = timeline.park(_execution.get(), Wait(timeline.now() + seconds))
            if isinstance(outcome, Stopped):
                raise outcome

        return pause

    replace(sf, "_apply_jsonata_arguments", arguments)
    replace(sf, "_invoke_with_callback", callback)
    replace(sf, "_scaled_sleep", sleep)


def _call(timeline: Timeline, wait: Wait, given: Any) -> None:
    try:
        function = sf._resolve_lambda_function_ref(given["FunctionName"], optimized=True)
        sf._call_lambda(function, given["Payload"])
    except sf._ExecutionError as fault:
        timeline.settle(wait, Failed(fault.error, fault.cause))
    finally:
        timeline.rest(wait)


def _result(outcome: object) -> Any:
    if isinstance(outcome, Stopped):
        raise outcome
    if outcome is ELAPSED:
        raise sf._ExecutionError("States.Timeout", "")
    if isinstance(outcome, Failed):
        raise sf._ExecutionError(outcome.error, outcome.cause)
    assert isinstance(outcome, Done)
    return json.loads(outcome.output)


def _limit_delays(original: Callable[..., Any]) -> Callable[..., Any]:
    """AWS: no delay of a retry is longer than its MaxDelaySeconds. ministack: not looked at."""

    def find(retriers: Any, error: str, counts: dict[int, int]) -> Any:
        retrier, index = original(retriers, error, counts)
        if retrier is None or "MaxDelaySeconds" not in retrier:
            return retrier, index
        delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** counts.get(index, 0)
        limited = min(delay, retrier["MaxDelaySeconds"])
        return {**retrier, "IntervalSeconds": limited, "BackoffRate": 1}, index

    return find


def _with_pass_time(original: Callable[..., Any], timeline: Timeline) -> Callable[..., Any]:
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        if headers.get("x-amz-target") != PASS_TIME:
            return await original(method, path, headers, body, query)
        # Not on the loop: what the executions do before they rest are calls to this very server.
        quiet = await asyncio.to_thread(timeline.advance, **json.loads(body), patience=PATIENCE)
        return json_response({}) if quiet else _refused("NotQuiet", f"an execution is still busy after {PATIENCE} s")

    return handle
