"""An agent and the code it runs, through the door, from the first word to the last."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from adapters.stores.local_disk import LocalDiskStore
from functions.asgi import Application
from lamplighter.usecases import machines, people
from tests.doubles import SteppingClock
from tests.functions.asgi_client import Client
from tests.functions.conftest import pieces
from tests.life import Life

CONTENT = b"weights" * 1000
HELLO = {
    "agent_version": "1",
    "runtime": "process",
    "hostname": "host",
    "cpus": 2,
    "memory_mib": 4096,
    "disk_free_mib": 10_000,
    "from_the_future": True,
}


class Agent:
    """Speaks JSON for one machine of a life that has one execution waiting."""

    def __init__(self, folder: Path) -> None:
        clock = SteppingClock()
        self.disk = LocalDiskStore(folder, base_url="https://lamplighter.test", signing_key=b"k" * 32, clock=clock)
        self.life = Life(clock=clock, store=lambda _: self.disk)
        self.execution = self.life.submit()
        self.life.settle()
        self.machine_id = self.life.machines()[-1].id
        self.application = Application(self.life.world, upload_folder=folder, objects=self.disk)
        self.client = Client(self.application)
        self.token = people.create_token(self.life.principal.user_id, "t", world=self.life.world)[1]
        self.session = ""

    def register(self) -> Any:
        join = machines.join_token(self.machine_id, world=self.life.world)
        reply = self.say("register/", {"machine_id": self.machine_id, **HELLO}, f"Join {join}")
        self.session = reply.json["session"]
        return reply

    def say(self, path: str, message: Any, credentials: str | None = None) -> Any:
        headers = {"authorization": credentials or f"Session {self.session}"}
        return self.client.call("POST", f"/api/worker/v0/{path}", message, headers=headers)

    def report(self, path: str, **message: Any) -> Any:
        return self.say(f"executions/{self.execution.id}/{path}", {"epoch": {"generation": 1, "n": 1}, **message})

    def shown(self) -> Any:
        return Client(self.application, self.token).get(f"/api/v0/executions/{self.execution.id}/").json


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_a_run_is_leased_reported_and_finished(agent: Agent) -> None:
    assert agent.register().status == 200
    offer = agent.say("lease/", {"claim_id": "c1"}).json
    job = offer["job"]
    code = agent.client.get(job["code"]["call"]["url"].removeprefix("https://lamplighter.test"))
    agent.report("started/", runtime="process", interpreter="python")
    line = [1_767_600_000_000_000, 0, '{"acc": 0.5} \ud83d']
    stored = agent.report(
        "events/", first_seq=job["next_seq"], lines=[line], metadata=[[job["next_seq"], {"acc": 0.5}]]
    )
    hashes = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha1", "sha256")}
    target = agent.report("outputs/", name="model.bin", size=len(CONTENT), **hashes).json
    put = agent.client.call(
        "PUT", target["call"]["url"].removeprefix("https://lamplighter.test"), chunks=pieces(CONTENT)
    )
    agent.report(f"outputs/{target['output_id']}/stored/")
    running = agent.shown()["status"]

    last = stored.json["next_seq"]
    finished = agent.report("finish/", outcome="complete", last_seq=last, exit_code=0, outputs=[target["output_id"]])

    assert hashlib.sha256(code.raw).hexdigest() == job["code"]["sha256"]
    assert (put.status, running, finished.json["status"]) == (201, "started", "complete")
    shown = agent.shown()
    assert (shown["status"], shown["cumulative_metadata"], shown["ran"]["runtime"]) == (
        "complete",
        {"acc": 0.5},
        "process",
    )
    assert [(o["name"], o["sha256"]) for o in shown["outputs"]] == [("model.bin", hashes["sha256"])]
    events = (
        Client(agent.application, agent.token).get(f"/api/v0/executions/{agent.execution.id}/events/").json["events"]
    )
    assert '{"acc": 0.5} \ud83d' in [event["message"] for event in events]


def test_a_gap_in_the_events_is_told_with_what_was_expected(agent: Agent) -> None:
    agent.register()
    agent.say("lease/", {"claim_id": "c1"})

    reply = agent.report("events/", first_seq=99, lines=[[1, 0, "x"]])

    assert reply.status == 409
    assert reply.json["code"] == "sequence_gap"
    assert reply.json["expected"] == 0


def test_an_old_epoch_is_told_to_stop(agent: Agent) -> None:
    agent.register()
    agent.say("lease/", {"claim_id": "c1"})

    reply = agent.report("heartbeat/", seq=1, epoch={"generation": 1, "n": 0})

    assert (reply.status, reply.json["code"]) == (409, "stale_epoch")


def test_code_in_a_run_may_tell_how_far_it_is_with_its_own_token_only(agent: Agent) -> None:
    agent.register()
    job = agent.say("lease/", {"claim_id": "c1"}).json["job"]
    call = job["config"]["api"]["set_status_detail"]
    path = call["url"].removeprefix("https://lamplighter.test")

    told = agent.client.call("POST", path, {"status_detail": "epoch 3"}, headers=call["headers"])
    wrong = agent.client.call("POST", path, {"status_detail": "x"}, headers={"authorization": "Job nonsense"})

    assert (told.status, wrong.status) == (200, 401)
    assert wrong.json["code"] == "not_authenticated"


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"claim_id": 7},
        [],
        "text",
        None,
        {"claim_id": {"a": 1}},
    ],
)
def test_a_message_that_breaks_the_contract_is_refused(agent: Agent, message: Any) -> None:
    agent.register()

    reply = agent.say("lease/", message)

    assert reply.status == 400
    assert set(reply.json) == {"code", "message"}


def test_a_farewell_ends_the_work(agent: Agent) -> None:
    agent.register()

    reply = agent.say("farewell/", {"reason": "bye"})

    assert (reply.status, reply.json) == (200, {})
    assert agent.say("lease/", {"claim_id": "c1"}).json["order"] == "drain"
