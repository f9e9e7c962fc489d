"""The REST API as the stories use it: small calls, and waiting for what they wait for."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

TERMINAL = ("complete", "error", "crashed", "stopped")

T = TypeVar("T")


def until(look: Callable[[], T], what: str, *, seconds: float = 60.0, every: float = 0.1) -> T:
    """The first true answer of `look`. Fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(every)


class Api:
    """An installation at `url`, called with `token` when there is one."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of the answer (text if it is none). Raises `AssertionError` for an answer of 400 and above."""
        status, answer = self.try_call(method, path, body)
        assert status < 400, f"{method} {path}: {status} {answer}"
        return answer

    def try_call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the answer, whatever they are."""
        url = path if path.startswith("http") else f"{self.url}{path}"
        headers = {"Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Token {self.token}"
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(url, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, _decoded(response.read())
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read())

    def execution(self, project: str, counter: int | str = "latest") -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/v0/executions/{project}:{counter}/")
        return found

    def status(self, project: str, counter: int | str = "latest") -> str:
        """Only the status: cheap enough to be asked for all the time."""
        which = "limit=1" if counter == "latest" else f"counter={counter}"
        return str(self.get(f"/api/v0/executions/?project={project}&{which}")["results"][0]["status"])

    def events(self, execution: dict[str, Any], stream: str = "stdout") -> list[str]:
        """The messages of one stream, all of them."""
        found = self.get(f"/api/v0/executions/{execution['id']}/events/?limit=0")["events"]
        return [event["message"] for event in found if event["stream"] == stream]

    def outputs(self, execution: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/api/v0/data/?output_execution={execution['id']}&limit=5000")[
            "results"
        ]
        return found

    def content(self, datum: dict[str, Any]) -> bytes:
        """The bytes of a datum, by the way that clients take."""
        url = self.get(f"/api/v0/data/{datum['id']}/download/")["url"]
        with urllib.request.urlopen(url, timeout=60) as response:
            body: bytes = response.read()
            return body

    def ended(
        self, project: str, counter: int | str = "latest", *, status: str = "complete", seconds: float = 90
    ) -> Any:
        """The execution once it has ended, as it was expected to."""

        def look() -> bool:
            return self.status(project, counter) in TERMINAL

        def why() -> str:
            found = self.execution(project, counter)
            waits = self.get(f"/api/v0/executions/{found['id']}/explain/")["reasons"]
            return f"#{counter} is {found['status']} ({found['status_detail']}); it waits for {waits}"

        try:
            until(look, "the end", seconds=seconds)
        except AssertionError:
            raise AssertionError(f"not ended within {seconds:g} s: {why()}") from None
        found = self.execution(project, counter)
        log = self.get(f"/api/v0/executions/{found['id']}/events/?limit=100")["events"]
        said = "\n".join(f"{event['stream']}: {event['message']}" for event in log)
        assert found["status"] == status, f"#{counter} is {found['status']} ({found['status_detail']}):\n{said}"
        return found

    def started(self, project: str, counter: int | str = "latest", *, seconds: float = 60) -> Any:
        """The execution once user code runs."""

        def look() -> bool:
            status = self.status(project, counter)
            assert status not in TERMINAL, f"#{counter} has ended: {self.execution(project, counter)}"
            return status == "started"

        until(look, f"#{counter} starts", seconds=seconds)
        return self.execution(project, counter)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
