"""The relay: a container's way to its own calls, and to nothing else."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest
from lamplighter_worker.relay import MOST_REQUEST, Relay

from tests.worker.control_double import Control


@pytest.fixture
def relay(control: Control) -> Iterator[tuple[Relay, int]]:
    execution = control.offer("true")
    made = Relay(control.url, execution.job.execution_id)
    port = made.listen("127.0.0.1")
    yield made, port
    made.close()


def request(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_the_runs_own_calls_and_objects_pass(control: Control, relay: tuple[Relay, int]) -> None:
    [execution] = control.executions.values()
    own = f"/api/worker/v0/executions/{execution.job.execution_id}/job/"
    control.objects["/objects/x"] = b"bytes" * 100_000

    assert request(relay[1], "POST", f"{own}status-detail/", b'{"status_detail": 1}') == (200, b"{}")
    assert request(relay[1], "GET", "/objects/x?signature=1") == (200, b"bytes" * 100_000)
    assert execution.status_detail == [1]


def test_urls_in_answers_lead_back_through_the_relay(control: Control, relay: tuple[Relay, int]) -> None:
    [execution_id] = control.executions

    _, body = request(relay[1], "GET", f"/api/worker/v0/executions/{execution_id}/job/inputs/?inputs=i")

    assert f"http://127.0.0.1:{relay[1]}/objects/{execution_id}/late".encode() in body
    assert control.url.encode() not in body


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v0/projects/",
        "/api/worker/v0/lease/",
        "/api/worker/v0/executions/another/job/inputs/",
        "/api/worker/v0/executions/{id}/finish/",
        "/api/worker/v0/executions/{id}/job/../finish/",
        "/objects/../api/v0/projects/",
        "/api/worker/v0/executions/{id}/%6aob/inputs/",
        "http://example.org/objects/x",
    ],
)
def test_everything_else_is_closed(path: str, control: Control, relay: tuple[Relay, int]) -> None:
    [execution_id] = control.executions

    status, _ = request(relay[1], "POST", path.replace("{id}", execution_id), b"{}")

    assert status == 404
    assert not control.seen


def test_a_large_request_is_refused(control: Control, relay: tuple[Relay, int]) -> None:
    status, _ = request(relay[1], "POST", "/objects/x", b"x" * (MOST_REQUEST + 1))

    assert status == 413


def test_only_addresses_of_the_control_plane_are_rewritten(control: Control, relay: tuple[Relay, int]) -> None:
    base, port = f"http://127.0.0.1:{relay[1]}", control.server_port
    urls = [f"http://localhost:{port}/a?b=c", f"http://127.0.0.1:{port + 1}/a", "https://store.example.org/a", "text"]

    assert relay[0].rewritten({"x": urls}) == {"x": [f"{base}/a?b=c", *urls[1:]]}
