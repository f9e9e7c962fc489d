"""Every call of the worker API through one server and through its own function: two equal lives, the same answers byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from adapters.stores.memory import MemoryStore
from functions.asgi import Application
from functions.aws import worker_api
from functions.worker_routes import ROUTES
from lamplighter.ports import Target
from lamplighter.usecases import machines
from tests.doubles import MemoryStores
from tests.functions.asgi_client import Client, Reply
from tests.functions.aws.gateway_client import GatewayClient
from tests.functions.test_workers import CONTENT, HELLO
from tests.life import Life

EPOCH = {"generation": 1, "n": 1}
HASHES = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha1", "sha256")}
RUN = "executions/{execution}"
ODD = (
    None,
    {},
    [],
    "text",
    7,
    {"epoch": 7},
    {"epoch": {"generation": 1, "n": 0}},
    {"claim_id": 7},
    {"status_detail": 7},
)

STORY: tuple[tuple[str, str, Any, str], ...] = (
    ("POST", "nonce/", {}, ""),
    ("POST", "nonce/", None, ""),
    ("GET", "nonce/", None, ""),
    ("POST", "register/", {}, "Join {join}"),
    ("POST", "register/", {"machine_id": "{machine}", **HELLO}, "Join wrong"),
    ("POST", "register/", {"machine_id": "{machine}", **HELLO}, "Proof nonsense"),
    ("POST", "register/", {"machine_id": "{machine}", **HELLO}, "Join {join}"),
    ("POST", "lease/", {"claim_id": "c1"}, "Session wrong"),
    ("POST", "lease/", {"claim_id": "c1"}, "Token {session}"),
    ("POST", "lease/", {"claim_id": "c1", "new": True}, "Session {session}"),
    ("POST", f"{RUN}/inputs/", {"epoch": EPOCH}, "Session {session}"),
    ("POST", f"{RUN}/started/", {"epoch": EPOCH, "runtime": "process", "interpreter": "python"}, "Session {session}"),
    ("POST", f"{RUN}/heartbeat/", {"epoch": EPOCH, "seq": 1, "phase": "größer \ud83d"}, "Session {session}"),
    ("POST", f"{RUN}/events/", {"epoch": EPOCH, "first_seq": 99, "lines": [[1, 0, "x"]]}, "Session {session}"),
    (
        "POST",
        f"{RUN}/events/",
        {
            "epoch": EPOCH,
            "first_seq": 0,
            "lines": [[1_767_600_000_000_000, 0, '{"acc": 0.5} \ud83d']],
            "metadata": [[0, {"acc": 0.5}]],
        },
        "Session {session}",
    ),
    ("POST", f"{RUN}/outputs/", {"epoch": EPOCH, "name": "model.bin", "size": 7000, **HASHES}, "Session {session}"),
    ("POST", f"{RUN}/outputs/", {"epoch": EPOCH, "name": "../x", "size": -1, **HASHES}, "Session {session}"),
    ("POST", f"{RUN}/outputs/{{output}}/stored/", {"epoch": EPOCH}, "Session {session}"),
    ("POST", f"{RUN}/job/status-detail/", {"status_detail": "epoch 3"}, "Job {job}"),
    ("POST", f"{RUN}/job/status-detail/", {"status_detail": "x"}, "Job wrong"),
    ("GET", f"{RUN}/job/inputs/?inputs=a&inputs=b", None, "Job {job}"),
    ("GET", f"{RUN}/job/inputs/", None, "Job {job}"),
    ("POST", f"{RUN}/job/inputs/", {}, "Job {job}"),
    ("POST", "executions/none/heartbeat/", {"epoch": EPOCH, "seq": 2}, "Session {session}"),
    ("POST", "executions/a%2Fb/heartbeat/", {"epoch": EPOCH, "seq": 2}, "Session {session}"),
    ("POST", "executions/a%22b/heartbeat/", {"epoch": EPOCH, "seq": 2}, "Session {session}"),
    ("POST", "nothing/", {}, "Session {session}"),
    ("POST", f"{RUN}/finish/", {"epoch": EPOCH, "outcome": "odd", "last_seq": 1}, "Session {session}"),
    ("POST", f"{RUN}/finish/", {"epoch": EPOCH, "outcome": "complete", "last_seq": 9}, "Session {session}"),
    (
        "POST",
        f"{RUN}/finish/",
        {"epoch": EPOCH, "outcome": "error", "last_seq": 1, "exit_code": 1},
        "Session {session}",
    ),
    ("POST", f"{RUN}/heartbeat/", {"epoch": EPOCH, "seq": 3}, "Session {session}"),
    ("POST", "lease", {"claim_id": "c2"}, "Session {session}"),
    ("POST", "farewell/", {"reason": "bye"}, "Session {session}"),
    ("POST", "lease/", {"claim_id": "c3"}, "Session {session}"),
)

SECRETS = re.compile(
    rb"ml[a-z]_[A-Za-z0-9_.-]{43,}|signature=[0-9a-f]{32}|under request [0-9a-f-]+|\"request_id\":\"[^\"]+\""
)


class Side:
    """One of two equal lives with an execution waiting, and the way in."""

    def __init__(self, folder: Path, *, own_function: bool) -> None:
        self.life = Life()
        execution = self.life.submit()
        self.life.settle()
        machine = self.life.machines()[-1].id
        join = machines.join_token(machine, world=self.life.world)
        self.known = {"execution": execution.id, "machine": machine, "join": join}
        self.application = Application(self.life.world, upload_folder=folder, behind_proxy=True)
        handler = worker_api.make_handler(lambda: self.life.world)
        self.client: Any = GatewayClient(handler) if own_function else Client(self.application)

    def tell(self, method: str, path: str, content: Any, credentials: str) -> Reply:
        body = json.loads(self._filled(json.dumps(content)))
        reply = self.send(method, path, body, credentials)
        if reply.status == 200:
            self._learn(path, reply.json)
        return reply

    def send(self, method: str, path: str, content: Any, credentials: str) -> Reply:
        headers = {"host": "lamplighter.test", "x-forwarded-proto": "https", "accept-encoding": "gzip"}
        headers |= {"authorization": self._filled(credentials)} if credentials else {}
        url = f"/api/worker/v0/{self._filled(path)}"
        reply: Reply = self.client.call(method, url, content, headers=headers)
        return reply

    def _filled(self, text: str) -> str:
        for name, value in self.known.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _learn(self, path: str, told: Any) -> None:
        if path == "register/":
            self.known["session"] = told["session"]
        elif told and path == "lease/" and told["order"] == "work":
            call = told["job"]["config"]["api"]["set_status_detail"]
            self.known["job"] = call["headers"]["Authorization"].partition(" ")[2]
        elif path.endswith("/outputs/"):
            self.known["output"] = told["output_id"]


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    both = Side(tmp_path, own_function=False), Side(tmp_path, own_function=True)
    yield both
    for side in both:
        side.application.close()


def test_a_run_hears_the_same_from_both_doors(sides: tuple[Side, Side]) -> None:
    server, function = sides
    differing, statuses = {}, []

    for number, step in enumerate(STORY):
        one, other = _shown(server.tell(*step)), _shown(function.tell(*step))
        statuses.append(one[0])
        if one != other:
            differing[f"{number} {step[0]} {step[1]}"] = (one, other)

    assert differing == {}
    assert {"session", "job", "output"} <= set(function.known)
    assert set(statuses) >= {200, 400, 401, 404, 405, 409}


@pytest.mark.parametrize("content", ODD, ids=str)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_every_call_takes_or_refuses_odd_bodies_alike(sides: tuple[Side, Side], route: Any, content: Any) -> None:
    answers = []

    for side in sides:
        for step in STORY[6:10:3]:
            side.tell(*step)
        kind = "Join" if route.path.endswith("register/") else "Job" if "/job/" in route.path else "Session"
        path = (
            route.path.removeprefix("/api/worker/v0/")
            .replace("<execution_id>", "{execution}")
            .replace("<output_id>", "o")
        )
        answers.append(_shown(side.send(route.method, path, content, f"{kind} {{{kind.lower()}}}")))

    assert answers[0] == answers[1]


class LongWinded(MemoryStore):
    """Signs addresses that hardly fit anywhere."""

    def presign_get(self, key: str, *, seconds: int, filename: str | None = None) -> Target:
        return replace(super().presign_get(key, seconds=seconds, filename=filename), url="x:" + token_hex(5_000_000))


def test_an_answer_that_the_platform_does_not_carry_is_refused_for_good(tmp_path: Path) -> None:
    side = Side(tmp_path, own_function=True)
    for step in (STORY[6], STORY[9]):
        assert side.tell(*step).status == 200
    side.life.world = replace(side.life.world, stores=MemoryStores({"default": LongWinded()}))

    reply = side.tell("POST", f"{RUN}/inputs/", {"epoch": EPOCH}, "Session {session}")
    side.application.close()

    assert (reply.status, reply.json["code"]) == (413, "answer_too_large")
    assert "at most 5500000 are carried" in reply.json["message"]


def _shown(reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    headers = {k: v for k, v in reply.headers.items() if k not in ("content-length", "connection")}
    return reply.status, SECRETS.sub(b"", reply.body), headers
