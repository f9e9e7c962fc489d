"""Lambda as AWS documents it, where ministack 1.5.33 does something else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from typing import Any

from ministack.core.lambda_runtime import Worker
from ministack.services import lambda_svc

from tests.emulators.replacing import replace

QUIET_SECONDS = 0.002
"""How long the first line of a function's log is waited for after its answer."""


def install() -> None:
    """Put every fix of this module into ministack."""
    replace(lambda_svc, "_execute_function_warm", _with_error_names)
    # A function that logs nothing would cost 50 ms a call.
    replace(Worker, "_drain_stderr_bounded", lambda original: partialmethod(original, first_line_wait=QUIET_SECONDS))


def _with_error_names(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """AWS: `errorType` is the name of the exception's class, which Step Functions matches in Retry and Catch.

    ministack's local executor: always `Runtime.HandlerError`.
    """

    def execute(function: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
        result = original(function, event, request_id)
        body = result.get("body")
        if isinstance(body, dict) and body.get("errorType") == "Runtime.HandlerError":
            name = _class_name(result.get("log", ""), body["errorMessage"])
            return {**result, "body": {**body, "errorType": name}}
        return result

    return execute


def _class_name(log: str, message: str) -> str:
    """The class at the end of a log that ends with the traceback: its last line is the class, a colon and the message."""
    head = log.removesuffix("\n").removesuffix(message).rstrip(": \n")
    return head.rpartition("\n")[2].rpartition(".")[2]
