"""Answers and archives that the platform does not carry: a real client, the handler behind a socket, and a real S3."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from adapters.stores.s3 import S3Store
from functions.aws import api
from functions.aws.wiring import MAX_UPLOAD_BYTES
from lamplighter.usecases import people
from tests.conformance.metadata_places import REGION
from tests.doubles import MemoryStores
from tests.functions.aws.gateway_client import GatewayClient, event, reply_of
from tests.functions.conftest import BOUNDARY, package
from tests.life import Agent, Life

BUCKET = "logs-with-large-answers"
LINE = "0123456789abcdef" * 64
LINES = 6000
MULTIPART = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass
class Behind:
    """The handler behind a socket, as the gateway puts it there; `asked` remembers what came in."""

    handler: Callable[..., dict[str, Any]]
    life: Life
    bucket: S3Store
    token: str
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def get(self, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Token {self.token}", "Accept-Encoding": "identity"}
        return requests.get(self.url + path, headers=headers, timeout=30, **more)


def _server(behind: Behind) -> ThreadingHTTPServer:
    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behind.asked.append(self.path)
            reply = reply_of(behind.handler(event(self.command, self.path, b"", dict(self.headers)), None))
            self.send_response(reply.status)
            for name, value in {**reply.headers, "content-length": str(len(reply.raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.raw)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Gateway)


@pytest.fixture
def behind(aws: str) -> Iterator[Behind]:
    with contextlib.suppress(ClientError):
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    bucket = S3Store(BUCKET)
    life = Life()
    world = replace(
        life.world,
        stores=MemoryStores({"default": life.store, "logs": bucket}, homes={"logs": "logs"}),
        installation=replace(life.world.installation, max_upload_bytes=MAX_UPLOAD_BYTES),
    )
    token = people.create_token(life.principal.user_id, "t", world=world)[1]
    made = Behind(api.make_handler(lambda: world), life, bucket, token)
    server = _server(made)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def _run_that_says(life: Life, lines: int) -> str:
    execution = life.submit()
    life.settle()
    agent = Agent(life, life.machines()[-1].id)
    agent.register()
    agent.claim()
    agent.start()
    for at in range(0, lines, 2000):
        agent.say(*(f"{number} {LINE}" for number in range(at, at + 2000)))
    return execution.id


def test_a_large_answer_is_fetched_from_the_bucket_by_a_client_that_knows_nothing_of_it(behind: Behind) -> None:
    execution_id = _run_that_says(behind.life, LINES)
    path = f"/api/v0/executions/{execution_id}/events/?limit=0"

    answer = behind.get(path)
    again = behind.get(path)

    (sent,) = [found for found in answer.history if found.status_code == 302]
    messages = [each["message"] for each in answer.json()["events"]]
    assert [m.partition(" ")[0] for m in messages if m.endswith(LINE)] == [str(n) for n in range(LINES)]
    assert again.content == answer.content
    assert sent.headers["Cache-Control"] == "no-store"
    assert [info.key for info in behind.bucket.list("answers/")] == [
        f"answers/2026-01-05/{hashlib.sha256(answer.content).hexdigest()}"
    ]
    # The credentials were for us alone: the signed address is all that the bucket needs.
    assert "Authorization" not in answer.request.headers
    assert behind.asked == [path, path]


def test_compression_spares_the_way_round(behind: Behind) -> None:
    execution_id = _run_that_says(behind.life, LINES)
    headers = {"Authorization": f"Token {behind.token}", "Accept-Encoding": "gzip"}

    answer = requests.get(f"{behind.url}/api/v0/executions/{execution_id}/events/?limit=0", headers=headers, timeout=30)

    assert (answer.history, answer.headers["Content-Encoding"]) == ([], "gzip")
    assert len(answer.json()["events"]) >= LINES


@pytest.mark.parametrize("over", [1, 200_000])
def test_an_archive_beyond_the_limit_is_told_the_limit_and_the_way_out(behind: Behind, over: int) -> None:
    client = GatewayClient(behind.handler, behind.token)
    body = package(b"x" * (MAX_UPLOAD_BYTES + over))

    reply = client.call(
        "POST", f"/api/v0/projects/{behind.life.project.id}/import-package/", body=body, headers=MULTIPART
    )

    assert (reply.status, reply.json["code"]) == (413, "too_large")
    assert "at most 4 MiB" in reply.json["message"]
    assert "git repository" in reply.json["message"]


def test_an_archive_within_the_limit_passes_through_what_lambda_carries() -> None:
    body = package(b"x" * MAX_UPLOAD_BYTES)

    assert len(event("POST", "/x/", body, MULTIPART)["body"]) < 5_700_000
