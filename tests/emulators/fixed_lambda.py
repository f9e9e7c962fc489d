"""Lambda as AWS documents it, where ministack 1.5.33 does something else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from tests.emulators.replacing import replace

QUIET_SECONDS = 0.002
"""How long the first line of a function's log is waited for after its answer."""

RAISED = "handler-raised"
"""Under this name a worker hands over the exception of its handler."""

_REPORT_OF_MINISTACK = '{"status": "error", "error": str(e), "trace": traceback.format_exc()}'
_REPORT = (
    '{"status": "ok", "result": {"' + RAISED + '": {"errorType": type(e).__name__, "errorMessage": str(e), '
    '"stackTrace": traceback.format_tb(e.__traceback__)}}}'
)


def install() -> None:
    """Put every fix of this module into ministack."""
    replace(lambda_runtime, "_PYTHON_WORKER_SCRIPT", _reporting)
    replace(lambda_svc, "_execute_function_warm", _explained)
    # A function that logs nothing would cost 50 ms a call.
    replace(
        lambda_runtime.Worker,
        "_drain_stderr_bounded",
        lambda original: partialmethod(original, first_line_wait=QUIET_SECONDS),
    )


def _reporting(script: str) -> str:
    """AWS: `errorType` is the name of the exception's class, which Step Functions match in Retry and Catch; the environment
    lives on and takes the next call.

    ministack's local executor: always `Runtime.HandlerError`; the process is ended.
    """
    if script.count(_REPORT_OF_MINISTACK) != 1:
        raise RuntimeError("ministack's worker reports exceptions in a new way: look at fixed_lambda.py")
    return script.replace(_REPORT_OF_MINISTACK, _REPORT)


def _explained(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The other half of `_reporting`: what the worker handed over becomes the answer of a function that failed."""

    def execute(function: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
        result = original(function, event, request_id)
        body = result.get("body")
        if not isinstance(body, dict) or body.keys() != {RAISED}:
            return result
        raised = body[RAISED]
        told = f"[ERROR] {raised['errorType']}: {raised['errorMessage']}\n{''.join(raised['stackTrace'])}"
        return {"body": raised, "error": True, "log": f"{result.get('log', '')}\n{told}".lstrip()}

    return execute
