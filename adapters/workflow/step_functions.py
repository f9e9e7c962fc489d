"""The `Workflow` port on AWS Step Functions: standard workflows made from the files in `state_machines/`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from lamplighter.errors import (
    AlreadyExists,
    Forbidden,
    Invalid,
    LamplighterError,
    NotFound,
    Throttled,
    Unavailable,
)
from lamplighter.ports import Json

MAX_CAUSE_CHARACTERS = 32_768
"""Step Functions' limit of a cause; the end of a longer one is cut off, as the embedded runner does."""

_GONE = {"ExecutionDoesNotExist", "InvalidToken", "StateMachineDoesNotExist", "TaskDoesNotExist", "TaskTimedOut"}
_BUSY = {"ExecutionLimitExceeded", "RequestLimitExceeded", "ThrottlingException", "TooManyRequestsException"}
_INVALID = {"InvalidArn", "InvalidExecutionInput", "InvalidName", "InvalidOutput", "ValidationException"}
_REFUSED = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "UnrecognizedClientException",
}


class StepFunctionsWorkflow:
    """Starts and answers executions of the state machines in `definitions` (name -> ARN). Safe to share between threads.

    Names are those of executions, as they are: at most 80 letters, digits, `-` and `_`. Step Functions keeps a name per
    state machine and for 90 days after its execution has ended; ours hold a UUID and are used once.

    Calls raise `Throttled` when Step Functions asks for fewer, `Unavailable` when it does not answer, `Forbidden` when the
    role may not, `Invalid` for what Step Functions will never accept (a name, or data beyond 256 KiB).
    """

    def __init__(
        self, definitions: Mapping[str, str], *, region: str | None = None, endpoint_url: str | None = None
    ) -> None:
        self._arns = dict(definitions)
        self._region = region
        self._endpoint_url = endpoint_url

    def start(self, definition: str, name: str, argument: Json) -> None:
        """As the port says; the same name may be used once per definition."""
        arn = self._arns.get(definition)
        if arn is None:
            known = ", ".join(sorted(self._arns))
            raise NotFound(f"the workflow {name} cannot be started: there is no definition {definition} (only {known})")
        text = _text(argument)
        try:
            with _step_functions(f"starting the workflow {name}"):
                self._client.start_execution(stateMachineArn=arn, name=name, input=text)
        except AlreadyExists:
            # Once an execution has ended, Step Functions refuses its name even to the same input.
            self._expect_same(definition, name, json.loads(text))

    def resume(self, token: str, output: Json) -> None:
        """As the port says."""
        with contextlib.suppress(NotFound), _step_functions("answering a waiting state"):
            self._client.send_task_success(taskToken=token, output=_text(output))

    def fail(self, token: str, error: str, cause: str) -> None:
        """As the port says."""
        with contextlib.suppress(NotFound), _step_functions(f"failing a waiting state with {error}"):
            self._client.send_task_failure(taskToken=token, error=error, cause=cause[:MAX_CAUSE_CHARACTERS])

    def stop(self, name: str, cause: str) -> None:
        """As the port says; whichever definition the name was started with."""
        for definition in self._arns:
            with contextlib.suppress(NotFound):
                self._stop(definition, name, cause[:MAX_CAUSE_CHARACTERS])

    def _stop(self, definition: str, name: str, cause: str) -> None:
        try:
            with _step_functions(f"stopping the workflow {name}"):
                self._client.stop_execution(executionArn=self._execution(definition, name), cause=cause)
        except Invalid:
            # Some answer so for one that has ended.
            if self._describe(definition, name)["status"] == "RUNNING":
                raise

    def _expect_same(self, definition: str, name: str, argument: Any) -> None:
        try:
            found = self._describe(definition, name)
        except NotFound as error:
            # Descriptions lag behind starts.
            raise Unavailable(
                f"starting the workflow {name}: its name is taken, and what it was started with cannot be read yet; "
                "try again"
            ) from error
        if json.loads(found["input"]) != argument:
            raise AlreadyExists(
                f"the workflow {name} cannot be started as {definition}: it was started at {found['startDate']} with "
                "another argument; choose another name"
            )

    def _describe(self, definition: str, name: str) -> Any:
        with _step_functions(f"looking at the workflow {name}"):
            return self._client.describe_execution(executionArn=self._execution(definition, name))

    def _execution(self, definition: str, name: str) -> str:
        """The ARN of an execution is that of its state machine with another kind and the name at its end."""
        return f"{self._arns[definition].replace(':stateMachine:', ':execution:')}:{name}"

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
        return boto3.session.Session().client(
            "stepfunctions", region_name=self._region, endpoint_url=self._endpoint_url, config=config
        )


def _text(value: Json) -> str:
    """The same value always gives the same text: Step Functions compares inputs as texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@contextlib.contextmanager
def _step_functions(attempt: str) -> Iterator[None]:
    """The one place where the SDK's failures become ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _explained(attempt, error.response) from error
    except BotoCoreError as error:
        raise Unavailable(
            f"{attempt}: Step Functions did not answer ({error}); look at its address, the network and the credentials, "
            "then try again"
        ) from error


def _explained(attempt: str, response: Mapping[str, Any]) -> LamplighterError:
    code = str(response.get("Error", {}).get("Code", ""))
    said = (
        f"{attempt}: Step Functions answered {code} ({response.get('Error', {}).get('Message') or 'no reason given'})"
    )
    if code == "ExecutionAlreadyExists":
        return AlreadyExists(said)
    if code in _GONE:
        return NotFound(said)
    if code in _BUSY or response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 429:
        return Throttled(f"{said}; it asks for fewer calls, try again later")
    if code in _REFUSED:
        return Forbidden(f"{said}; look at the policy of this function's role")
    if code in _INVALID:
        return Invalid.because(said)
    return Unavailable(f"{said}; try again")
