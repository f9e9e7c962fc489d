"""Emulated Step Functions for many tests, and the stage that each of them gets there."""

from __future__ import annotations

import io
import itertools
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from adapters.workflow.step_functions import StepFunctionsWorkflow
from lamplighter.ports import Json
from tests.emulators.ministack import ACCOUNT, REGION, Ministack
from tests.state_machines.stage import DEFINITIONS, Tasks

ROLE = f"arn:aws:iam::{ACCOUNT}:role/tests"
FUNCTION = Path(__file__).with_name("remote_tasks.py")


class Theatre:
    """An emulator in held time with one function, which asks `tasks`: whoever is on stage puts its own there."""

    def __init__(self, emulator: Ministack) -> None:
        self.emulator = emulator
        self.tasks = Tasks()
        self.client = emulator.client("stepfunctions")
        self._door = _door(self)
        self._thread = threading.Thread(target=self._door.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self._function = self._deploy_function()
        self._numbers = itertools.count(1)

    def deploy(self, definition: Json) -> str:
        """A new state machine; its ARN."""
        text = json.dumps(definition).replace("${TasksFunctionArn}", self._function)
        made = self.client.create_state_machine(name=f"machine-{next(self._numbers)}", definition=text, roleArn=ROLE)
        return str(made["stateMachineArn"])

    def close(self) -> None:
        self._door.shutdown()
        self._thread.join()
        self._door.server_close()

    def _deploy_function(self) -> str:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(FUNCTION.name, FUNCTION.read_text())
        made = self.emulator.client("lambda").create_function(
            FunctionName="tasks",
            Runtime="python3.11",
            Role=ROLE,
            Handler=f"{FUNCTION.stem}.handler",
            Code={"ZipFile": archive.getvalue()},
            Timeout=60,
            Environment={"Variables": {"TASKS_URL": f"http://127.0.0.1:{self._door.server_port}/"}},
        )
        return str(made["FunctionArn"])


class EmulatedStage:
    """What `tests.state_machines.stage.Stage` is for the embedded runner: a workflow, its tasks, and time that stands still."""

    def __init__(self, theatre: Theatre, definitions: Mapping[str, Json] = DEFINITIONS) -> None:
        self._theatre = theatre
        self.tasks = theatre.tasks = Tasks()
        self.arns = {name: theatre.deploy(definition) for name, definition in definitions.items()}
        self.workflow = StepFunctionsWorkflow(self.arns, region=REGION, endpoint_url=theatre.emulator.url)

    def quiet(self) -> None:
        """Return once every execution waits or has ended."""
        self._theatre.emulator.pass_time(0)

    def pass_time(self, seconds: int, *, step: int = 1) -> None:
        """Let time pass in steps of so many seconds, and be quiet after each."""
        self._theatre.emulator.pass_time(seconds, step=step)

    def execution(self, definition: str, name: str) -> Json:
        """What Step Functions says of it."""
        described: Json = self._theatre.client.describe_execution(executionArn=self._execution(definition, name))
        return described

    def history(self, definition: str, name: str) -> list[Json]:
        """Every event of its history, oldest first."""
        pages = self._theatre.client.get_paginator("get_execution_history")
        found = pages.paginate(executionArn=self._execution(definition, name))
        return [event for page in found for event in page["events"]]

    def close(self) -> None:
        """Leave nothing that would wake when time passes for the next."""
        for arn in self.arns.values():
            for page in self._theatre.client.get_paginator("list_executions").paginate(
                stateMachineArn=arn, statusFilter="RUNNING"
            ):
                for execution in page["executions"]:
                    self._theatre.client.stop_execution(executionArn=execution["executionArn"])
        self.quiet()

    def _execution(self, definition: str, name: str) -> str:
        return f"{self.arns[definition].replace(':stateMachine:', ':execution:')}:{name}"


@contextmanager
def theatre(folder: Path) -> Iterator[Theatre]:
    """An emulator of its own, with the function deployed."""
    with Ministack(folder, held_time=True) as emulator:
        made = Theatre(emulator)
        try:
            yield made
        finally:
            made.close()


def _door(theatre: Theatre) -> ThreadingHTTPServer:
    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps(_answered(theatre.tasks, payload)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests speak through their results."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Door)


def _answered(tasks: Tasks, payload: Json) -> Json:
    try:
        return {"result": tasks(payload)}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
