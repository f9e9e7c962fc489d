"""The reference execution, played in virtual time through the real Lambda handlers: 1 h, heartbeats, 1 MB of logs, 10 outputs."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import timedelta
from typing import Any

from lamplighter_worker.outputs import PARALLEL
from lamplighter_worker.sender import GROWTH, LONGEST_GAP, MOST_LINES, WATCHED_GAP

from functions.aws import api, outbox, sweep, tasks, worker_api
from functions.aws.wiring import HEARTBEAT_SECONDS, LONGEST_POLL_SECONDS, POLL_SECONDS
from lamplighter import keys
from lamplighter.domain.data import Datum
from lamplighter.ports import Record
from lamplighter.records import need, walk
from lamplighter.usecases import machines, people
from tests.bench._meter import Meter, MeteredMetadata, MeteredStore
from tests.doubles import MemoryStores, RecordingWorkflow
from tests.life import DEFINITIONS, Life

HOUR = 3600
IDLE_SECONDS = 300
DYING_SECONDS = 30
"""How long EC2 takes to end an instance, which nobody promises: an assumption."""

LOG_LINES, LINE = 10_000, "x" * 100
OUTPUTS = 10
TOKEN = "waiting-state"

Handler = Callable[[Mapping[str, Any], Any], Any]


class Stage:
    """A stack in memory, with a meter at each of its services."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.life = Life()
        inner = self.life.world
        installation = replace(
            inner.installation,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            poll_seconds=POLL_SECONDS,
            longest_poll_seconds=LONGEST_POLL_SECONDS,
            live_logs=False,
        )
        self.world = replace(
            inner,
            installation=installation,
            metadata=MeteredMetadata(inner.metadata, meter),  # type: ignore[arg-type]
            stores=MemoryStores({"default": MeteredStore(self.life.store, meter)}),  # type: ignore[dict-item]
            workflow=RecordingWorkflow(),
        )
        _, self.token = people.create_token(self.life.principal.user_id, "bench", world=self.life.world)
        self.worker: Handler = worker_api.make_handler(lambda: self.world)
        self.api: Handler = api.make_handler(lambda: self.world)
        self.tasks: Handler = tasks.make_handler(lambda: self.world)
        self.outbox: Handler = outbox.make_handler(lambda: self.world)
        self.sweep: Handler = sweep.make_handler(lambda: self.world)
        self.call("api", "GET", "/api/v0/projects/")  # what a sandbox does once is no part of a call
        self.session = ""

    def meter_with(self, meter: Meter) -> None:
        """What is counted from here on is counted there."""
        for part in (self, self.world.metadata, self.world.stores.named("default")):
            part.meter = meter  # type: ignore[union-attr]

    # --- calls ---------------------------------------------------------------------------------------------------------

    def call(self, door: str, method: str, path: str, body: object = None, authorization: str = "") -> Any:
        """One request through the gateway; its answer as JSON. Raises `AssertionError` when it is refused."""
        text = json.dumps(body) if body is not None else ""
        headers = {
            "content-type": "application/json",
            "authorization": authorization or f"Token {self.token}",
            "content-length": str(len(text)),
        }
        event = {
            "rawPath": path,
            "headers": headers,
            "body": text,
            "isBase64Encoded": False,
            "requestContext": {"http": {"method": method}, "stage": "$default"},
        }
        if door == "api":  # machines call a function URL, which has no price of its own
            self.meter.counts["requests"] += max(1, -(-len(text) // (512 * 1024)))
        with self.meter.function(door):
            answer = (self.api if door == "api" else self.worker)(event, None)
        assert answer["statusCode"] < 300, answer
        self._deliver()
        return json.loads(answer["body"] or "{}")

    def say(self, path: str, body: object) -> Any:
        """A call of the machine."""
        return self.call("worker_api", "POST", f"/api/worker/v0/{path}", body, f"Session {self.session}")

    def task(self, name: str, **ids: str) -> None:
        """A state of a state machine is entered, or tried again, which is billed as another transition.

        https://aws.amazon.com/step-functions/pricing/
        """
        self.meter.counts["transitions"] += 1
        with self.meter.function("tasks"):
            self.tasks({"task": name, **ids}, None)
        self._deliver()

    def _deliver(self) -> None:
        """The stream shows what was promised, one batch for each transaction: the dearest case."""
        while rows := [row for shard in keys.OUTBOX for row in walk(self.life.world.metadata, shard)]:
            records = [_stream_record(row) for row in rows]
            with self.meter.function("outbox"):
                self.outbox({"Records": records}, None)

    # --- the play --------------------------------------------------------------------------------------------------------

    def submit(self) -> str:
        order = {
            "project": self.life.project.id,
            "commit": self.life.commit.identifier,
            "step": "train",
            "inputs": {"images": []},
        }
        execution_id = str(self.call("api", "POST", "/api/v0/executions/", order)["id"])
        self.task("begin_execution", execution_id=execution_id, task_token=TOKEN)
        return execution_id

    def light(self) -> str:
        """A machine, from its launch to its session."""
        machine_id = self.life.machines()[-1].id
        self.task("launch_machine", machine_id=machine_id, task_token=TOKEN)
        self.life.clock.advance(seconds=60)
        hello = {
            "machine_id": machine_id,
            "agent_version": "1",
            "runtime": "docker",
            "hostname": "host",
            "cpus": 4,
            "memory_mib": 16000,
            "disk_free_mib": 50_000,
        }
        join = machines.join_token(machine_id, world=self.life.world)
        self.call("worker_api", "POST", "/api/worker/v0/nonce/", {})
        answer = self.call("worker_api", "POST", "/api/worker/v0/register/", hello, f"Join {join}")
        self.session = answer["session"]
        self.task("watch_machine", machine_id=machine_id, task_token=TOKEN)
        return machine_id

    def run(self, execution_id: str) -> None:
        """One hour of work, as the agent reports it."""
        offer = self.say("lease/", {"claim_id": "claim-1"})
        epoch, path = offer["job"]["epoch"], f"executions/{execution_id}"
        self.say(f"{path}/started/", {"epoch": epoch, "runtime": "docker", "image_digest": "sha256:" + 64 * "0"})
        lines = self._hour(path, epoch)
        outputs = self._outputs(path, epoch)
        self.say(
            f"{path}/finish/",
            {"epoch": epoch, "outcome": "complete", "last_seq": lines, "outputs": outputs, "exit_code": 0},
        )
        self.task("settle_execution", execution_id=execution_id)

    def _hour(self, path: str, epoch: object) -> int:
        """Log batches in gaps that grow while nobody watches; a heartbeat where no batch has said the same."""
        began = self.life.clock()
        sent, gap, next_batch, next_beat, second = 0, WATCHED_GAP, 0.0, HEARTBEAT_SECONDS, 0.0
        beat = 0
        while second < HOUR:
            second = min(next_batch, next_beat, HOUR)
            self.life.clock.set(began + timedelta(seconds=second))
            if second == next_beat:
                beat += 1
                self.say(f"{path}/heartbeat/", {"epoch": epoch, "seq": beat})
            else:
                due = int(LOG_LINES * second / HOUR)
                sent = self._events(path, epoch, sent, due)
                gap = min(LONGEST_GAP, gap * GROWTH)
                next_batch = second + gap
            next_beat = second + HEARTBEAT_SECONDS
        return self._events(path, epoch, sent, LOG_LINES)

    def _events(self, path: str, epoch: object, sent: int, due: int) -> int:
        while sent < due:
            count = min(MOST_LINES, due - sent)
            at = int(self.life.clock().timestamp() * 1e6)
            lines = [[at + n, 0, LINE] for n in range(count)]
            answer = self.say(f"{path}/events/", {"epoch": epoch, "first_seq": sent, "lines": lines, "metadata": []})
            sent = int(answer["next_seq"])
        return sent

    def _outputs(self, path: str, epoch: object) -> list[str]:
        """All at the end, in as many threads as the agent has: the first asks alone, those that come meanwhile ask together."""
        ids: list[str] = []
        for crew in (range(1), range(1, PARALLEL), range(PARALLEL, OUTPUTS)):
            wishes = {f"output {number}".encode(): _wish(number, epoch) for number in crew}
            several = {"epoch": epoch, "outputs": list(wishes.values())}
            targets = self.say(f"{path}/outputs/several/", several)["targets"]
            crew_ids = [str(target["output_id"]) for target in targets]
            for content, output_id in zip(wishes, crew_ids, strict=True):
                datum = need(self.life.world.metadata, Datum, keys.datum(output_id), "it").value
                self.life.store.put(datum.object_key, io.BytesIO(content), size=len(content))
                self.meter.counts["puts"] += 1  # by the machine, to the address it was given
            self.say(f"{path}/outputs/several/stored/", {"epoch": epoch, "output_ids": crew_ids})
            ids += crew_ids
        return ids

    def idle(self) -> None:
        """The machine asks for work until it is told to go out."""
        asked = 0
        while (offer := self.say("lease/", {"claim_id": f"idle-{asked}"}))["order"] == "wait":
            asked += 1
            self.life.clock.advance(seconds=offer["wait_seconds"])

    def put_out(self, machine_id: str) -> None:
        """It says farewell and powers off; the cloud is asked until it confirms."""
        self.say("farewell/", {"reason": "drained"})
        for _ in range(1 + _retries(DYING_SECONDS)):
            self.task("put_out_machine", machine_id=machine_id, reason="retired")
        self.task("settle_machine", machine_id=machine_id)

    def sweep_once(self) -> Any:
        """What the scheduler starts every minute; the line that it logs."""
        self.meter.counts["scheduled"] += 1
        with self.meter.function("sweep"), redirect_stdout(io.StringIO()) as said:
            self.sweep({}, None)
        self._deliver()
        return json.loads(said.getvalue())


def _stream_record(row: Record) -> dict[str, Any]:
    image = {"value": {"S": json.dumps(row.value)}}
    keys_of = {"pk": {"S": row.key.partition}, "sk": {"S": row.key.sort}}
    return {"eventName": "INSERT", "dynamodb": {"Keys": keys_of, "NewImage": image, "SequenceNumber": "1"}}


def _wish(number: int, epoch: object) -> dict[str, Any]:
    content = f"output {number}".encode()
    digests = {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha1", "sha256")}
    return {"epoch": epoch, "name": f"model-{number}.bin", "size": len(content), **digests}


def _retries(seconds: float) -> int:
    """How often a state is tried again while a machine takes so long to be gone."""
    retrier = DEFINITIONS["machine"]["States"]["PutOut"]["Retry"][0]
    waited, tries = 0.0, 0
    while waited < seconds:
        pause = retrier["IntervalSeconds"] * retrier["BackoffRate"] ** tries
        waited, tries = waited + min(pause, retrier["MaxDelaySeconds"]), tries + 1
    return tries
