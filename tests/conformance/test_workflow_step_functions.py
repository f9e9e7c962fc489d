"""What only the Step Functions adapter promises: the faults of AWS in our words, and names that AWS does not give twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from adapters.workflow.step_functions import StepFunctionsWorkflow
from lamplighter.errors import AlreadyExists, Forbidden, Invalid, LamplighterError, NotFound, Throttled, Unavailable
from lamplighter.ports import Json, Workflow
from tests.e2e.ports import free_port

ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:stack-execution"
EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:stack-execution:e1"
SEEN = {
    "executionArn": EXECUTION,
    "stateMachineArn": ARN,
    "name": "e1",
    "status": "SUCCEEDED",
    "startDate": 1767614400,
    "input": '{"execution_id": "e1", "n": 1}',
}
ONE = {"execution": ARN}
ARGUMENT = {"n": 1, "execution_id": "e1"}


class Aws:
    """Says what it was told to say, by operation, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Json] = {}
        self.asked: list[tuple[str, Json]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._door())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def refuses(self, operation: str, code: str) -> None:
        self.answers[operation] = {"__type": code, "message": "said the test"}

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.asked]

    def _door(self) -> type[BaseHTTPRequestHandler]:
        aws = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                operation = self.headers["X-Amz-Target"].partition(".")[2]
                aws.asked.append((operation, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                answer = aws.answers.get(operation, {"startDate": 1767614400, "stopDate": 1767614400})
                body = json.dumps(answer).encode()
                self.send_response(400 if "__type" in answer else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Tests speak through their results."""

        return Door


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made = Aws()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def workflow(aws: Aws) -> Workflow:
    return connected(aws.url)


def connected(url: str, definitions: Mapping[str, str] = ONE) -> StepFunctionsWorkflow:
    return StepFunctionsWorkflow(definitions, region="eu-west-1", endpoint_url=url)


CALLS: dict[str, tuple[str, Callable[[Workflow], None]]] = {
    "start": ("StartExecution", lambda workflow: workflow.start("execution", "e1", ARGUMENT)),
    "resume": ("SendTaskSuccess", lambda workflow: workflow.resume("token", {})),
    "fail": ("SendTaskFailure", lambda workflow: workflow.fail("token", "Lost", "why")),
    "stop": ("StopExecution", lambda workflow: workflow.stop("e1", "why")),
}


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("ThrottlingException", Throttled),
        ("AccessDeniedException", Forbidden),
        ("InternalServerError", Unavailable),
    ],
)
def test_a_refusal_is_told_in_our_words(
    call: str, code: str, ours: type[LamplighterError], aws: Aws, workflow: Workflow
) -> None:
    operation, act = CALLS[call]
    aws.refuses(operation, code)

    with pytest.raises(ours, match=code):
        act(workflow)


@pytest.mark.parametrize("call", sorted(CALLS))
def test_silence_is_unavailable(call: str, aws: Aws) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        CALLS[call][1](connected(f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("call", ["resume", "fail"])
@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_an_answer_that_nobody_waits_for_is_no_error(call: str, code: str, aws: Aws, workflow: Workflow) -> None:
    operation, act = CALLS[call]
    aws.refuses(operation, code)

    act(workflow)

    assert aws.operations() == [operation]


def test_a_name_that_step_functions_will_never_accept_is_invalid(aws: Aws, workflow: Workflow) -> None:
    aws.refuses("StartExecution", "InvalidName")

    with pytest.raises(Invalid, match="InvalidName"):
        workflow.start("execution", "e1 *", ARGUMENT)


def test_a_state_machine_that_is_gone_is_not_found(aws: Aws, workflow: Workflow) -> None:
    aws.refuses("StartExecution", "StateMachineDoesNotExist")

    with pytest.raises(NotFound):
        workflow.start("execution", "e1", ARGUMENT)


def test_too_many_executions_ask_for_patience(aws: Aws, workflow: Workflow) -> None:
    aws.refuses("StartExecution", "ExecutionLimitExceeded")

    with pytest.raises(Throttled):
        workflow.start("execution", "e1", ARGUMENT)


def test_equal_arguments_are_sent_as_equal_texts(aws: Aws, workflow: Workflow) -> None:
    workflow.start("execution", "e1", ARGUMENT)
    workflow.start("execution", "e1", dict(reversed(ARGUMENT.items())))

    first, second = (asked for _, asked in aws.asked)
    assert first == second
    assert first["name"] == "e1"


def test_a_taken_name_is_asked_what_it_was_started_with(aws: Aws, workflow: Workflow) -> None:
    aws.refuses("StartExecution", "ExecutionAlreadyExists")
    aws.answers["DescribeExecution"] = SEEN

    workflow.start("execution", "e1", ARGUMENT)

    assert aws.asked[-1] == ("DescribeExecution", {"executionArn": EXECUTION})


def test_a_name_taken_for_another_argument_is_refused(aws: Aws, workflow: Workflow) -> None:
    aws.refuses("StartExecution", "ExecutionAlreadyExists")
    aws.answers["DescribeExecution"] = SEEN

    with pytest.raises(AlreadyExists, match="e1"):
        workflow.start("execution", "e1", {**ARGUMENT, "n": 2})


@pytest.mark.parametrize(("code", "ours"), [("ExecutionDoesNotExist", Unavailable), ("ThrottlingException", Throttled)])
def test_a_taken_name_that_cannot_be_looked_at_is_tried_again_later(
    code: str, ours: type[LamplighterError], aws: Aws, workflow: Workflow
) -> None:
    aws.refuses("StartExecution", "ExecutionAlreadyExists")
    aws.refuses("DescribeExecution", code)

    with pytest.raises(ours):
        workflow.start("execution", "e1", ARGUMENT)


def test_a_stop_looks_in_every_definition(aws: Aws) -> None:
    aws.refuses("StopExecution", "ExecutionDoesNotExist")

    connected(aws.url, {"execution": ARN, "machine": ARN.replace("execution", "machine")}).stop("e1", "why")

    assert [asked["executionArn"] for _, asked in aws.asked] == [
        EXECUTION,
        EXECUTION.replace("k-execution", "k-machine"),
    ]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"])
def test_a_stop_that_is_refused_because_the_flow_has_ended_is_no_error(
    status: str, aws: Aws, workflow: Workflow
) -> None:
    aws.refuses("StopExecution", "ValidationException")
    aws.answers["DescribeExecution"] = {**SEEN, "status": status}

    workflow.stop("e1", "why")

    assert aws.operations() == ["StopExecution", "DescribeExecution"]


def test_a_stop_that_is_refused_while_the_flow_runs_is_told(aws: Aws, workflow: Workflow) -> None:
    aws.refuses("StopExecution", "ValidationException")
    aws.answers["DescribeExecution"] = {**SEEN, "status": "RUNNING"}

    with pytest.raises(Invalid):
        workflow.stop("e1", "why")


def test_a_cause_beyond_the_limit_of_step_functions_is_cut(aws: Aws, workflow: Workflow) -> None:
    workflow.fail("token", "Lost", "x" * 40_000)
    workflow.stop("e1", "x" * 40_000)

    assert [len(asked["cause"]) for _, asked in aws.asked] == [32_768, 32_768]


def test_the_sdk_is_not_loaded_before_the_first_call() -> None:
    code = (
        "import sys; from adapters.workflow.step_functions import StepFunctionsWorkflow; StepFunctionsWorkflow({}); "
        "print([name for name in sys.modules if name in ('boto3', 'botocore', 'jsonata')])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
