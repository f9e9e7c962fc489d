"""A control plane on loopback that keeps the worker contract to the letter, writes all down, and fails when told to."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import tarfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lamplighter.contract import report
from lamplighter.contract.job import Call, Code, Epoch, Input, Job, Limits
from lamplighter.contract.wire import decode, encode

MOST_LINES, MOST_BYTES = 5000, 4 * 1024 * 1024

KINDS = (
    "register",
    "lease",
    "inputs",
    "started",
    "heartbeat",
    "events",
    "outputs",
    "stored",
    "finish",
    "farewell",
)
"""Every kind of message that an agent with a join token sends."""


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, **more: Any) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"code": code, "message": code, **more}


@dataclass
class Execution:
    """All that was told about one execution."""

    job: Job
    inputs: tuple[Input, ...] = ()
    lines: list[tuple[int, int, str]] = field(default_factory=list)
    metadata: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    started: report.Started | None = None
    phases: list[str] = field(default_factory=list)
    outputs: dict[str, report.NewOutput] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    finish: report.Finish | None = None
    stop: report.StopReason | None = None
    watched: bool = True
    notice: report.Notice = ""
    lease_seconds: int = 900
    heartbeat_seq: int = -1
    status_detail: list[Any] = field(default_factory=list)

    def said(self, stream: int) -> list[str]:
        return [text for _, s, text in self.lines if s == stream]

    @property
    def stdout(self) -> list[str]:
        return self.said(0)

    @property
    def stderr(self) -> list[str]:
        return self.said(1)

    @property
    def status(self) -> list[str]:
        return self.said(2)


class Control(ThreadingHTTPServer):
    """`lose[kind]` answers of a kind are lost after the work was done; while `away` nobody answers at all."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.RLock()
        self.executions: dict[str, Execution] = {}
        self.queue: list[str] = []
        self.leases: dict[str, str] = {}
        self.busy: str | None = None
        self.objects: dict[str, bytes] = {}
        self.lose: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.way_seconds = 0.0  # what each answer takes on its way, as over a network
        self.faults: list[str] = []
        self.bodies: dict[str, Any] = {}
        self.too_large: set[str] = set()
        self.carries_no: set[str] = set()
        self.away = False
        self.answer_503 = False
        self.drain = False
        self.sessions: set[str] = set()
        self.join_token = "join-me"
        self.heartbeat_seconds = 0.2
        self.deadman_seconds = 1800.0
        self.farewells: list[str] = []
        self.notices: list[report.Notice] = []
        self.registrations: list[report.Register] = []
        self.nonces: list[str] = []
        self.proofs: list[report.Proof] = []
        self.refuse_proofs: list[Refusal] = []
        self.on: dict[str, Callable[[], None]] = {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what these tests are about."""

    # --- for tests ---------------------------------------------------------------------------------------------------

    def offer(
        self,
        script: str,
        *,
        inputs: tuple[Input, ...] = (),
        files: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        **more: Any,
    ) -> Execution:
        """Queues an execution that runs `script` in a repository of `files`."""
        execution_id = str(uuid.uuid4())
        archive = archive_of(files or {"main.txt": "main"})
        self.objects[f"/objects/{execution_id}/code"] = archive
        code = Code(Call(f"{self.url}/objects/{execution_id}/code"), hashlib.sha256(archive).hexdigest(), len(archive))
        base = f"{self.url}/api/worker/v0/executions/{execution_id}/job"
        fields: dict[str, Any] = {
            "execution_id": execution_id,
            "project_id": str(uuid.uuid4()),
            "counter": 1,
            "epoch": Epoch(1, 1),
            "lease_seconds": 900,
            "next_seq": 0,
            "code": code,
            "image": "lamplighter-test-busybox:1",
            "script": script,
            "environment": {},
            "config": {
                "parameters": {"lr": 0.5},
                "execution": {},
                "runtime": {},
                "api": {
                    "set_status_detail": {"method": "POST", "url": f"{base}/status-detail/", "headers": {"A": "b"}},
                    "input_request": {"method": "GET", "url": f"{base}/inputs/", "headers": {}},
                },
            },
            "limits": limits or Limits(stop_grace=4),
        }
        execution = Execution(Job(**{**fields, **more}), inputs, lease_seconds=more.get("lease_seconds", 900))
        with self.lock:
            self.executions[execution_id] = execution
            self.queue.append(execution_id)
        return execution

    def fence(self, execution: Execution) -> None:
        """Gives the execution to somebody else."""
        with self.lock:
            epoch = execution.job.epoch
            execution.job = replace(execution.job, epoch=Epoch(epoch.generation, epoch.n + 1))
            self.busy = None

    # --- the contract ------------------------------------------------------------------------------------------------

    def answer(self, kind: str, parts: list[str], authorization: str, body: Any) -> Any:
        if kind == "nonce":
            self.nonces.append(f"nonce-{len(self.nonces)}")
            return report.Nonce(self.nonces[-1])
        if kind == "register":
            return self._register(authorization, decode(report.Register, body))
        if authorization.removeprefix("Session ") not in self.sessions:
            raise Refusal(401, "not_authenticated")
        if kind == "lease":
            return self._lease(decode(report.Claim, body))
        if kind == "farewell":
            self.farewells.append(decode(report.Farewell, body).reason)
            return {}
        execution = self.executions.get(parts[1])
        if execution is None:
            raise Refusal(404, "not_found")
        epoch = decode(report.Held, body).epoch
        if kind == "finish":
            return self._finish(execution, decode(report.Finish, body))
        if epoch != execution.job.epoch or execution.finish is not None or self.busy != execution.job.execution_id:
            raise Refusal(409, "stale_epoch")
        if kind == "inputs":
            if "inputs" in self.carries_no:
                raise Refusal(413, "answer_too_large")
            return report.Inputs(execution.inputs, execution.job.code.call)
        if kind == "started":
            execution.started = decode(report.Started, body)
        elif kind == "heartbeat":
            self._heartbeat(execution, decode(report.Heartbeat, body))
        elif kind == "events":
            return self._events(execution, decode(report.Events, body))
        elif kind == "outputs":
            several = decode(report.NewOutputs, body).outputs
            return report.OutputTargets(tuple(self._output(execution, output) for output in several))
        elif kind == "stored":
            for output_id in decode(report.OutputsStored, body).output_ids:
                self._stored(execution, output_id)
            return report.OutputsKept({}, self._orders(execution))
        return self._orders(execution)

    def _register(self, authorization: str, body: report.Register) -> report.Registered:
        machine_id = ""
        if authorization.startswith("Proof "):
            machine_id = self._proven(decode(report.Proof, json.loads(base64.b64decode(authorization[6:]))))
        elif authorization != f"Join {self.join_token}":
            raise Refusal(401, "not_authenticated")
        self.registrations.append(body)
        session = str(uuid.uuid4())
        self.sessions.add(session)
        return report.Registered(session, self.heartbeat_seconds, 0.1, self.deadman_seconds, machine_id)

    def _proven(self, proof: report.Proof) -> str:
        """Whoever shows the newest nonce for the first time, once those in `refuse_proofs` have been refused."""
        known = self.nonces[-1:] == [proof.nonce] and proof.nonce not in [p.nonce for p in self.proofs]
        self.proofs.append(proof)
        if self.refuse_proofs:
            raise self.refuse_proofs.pop(0)
        if not known:
            raise Refusal(401, "not_authenticated")
        return "machine-of-this-instance"

    def _lease(self, claim: report.Claim) -> report.Offer:
        known = self.leases.get(claim.claim_id)
        if known is not None and known == self.busy:
            return self._work(self.executions[known])
        if self.busy is not None or known is not None:
            return report.Offer("wait", wait_seconds=0.1)
        if self.queue:
            self.busy = self.leases[claim.claim_id] = self.queue.pop(0)
            return self._work(self.executions[self.busy])
        return report.Offer("drain") if self.drain else report.Offer("wait", wait_seconds=0.05)

    def _work(self, execution: Execution) -> report.Offer:
        return report.Offer("work", replace(execution.job, next_seq=len(execution.lines)))

    def _heartbeat(self, execution: Execution, body: report.Heartbeat) -> None:
        if body.seq > execution.heartbeat_seq:
            execution.heartbeat_seq = body.seq
            self.notices.append(body.notice)
            if not execution.phases or execution.phases[-1] != body.phase:
                execution.phases.append(body.phase)

    def _events(self, execution: Execution, body: report.Events) -> report.EventsStored:
        known = len(execution.lines)
        if body.first_seq > known:
            raise Refusal(409, "sequence_gap", expected=known)
        if not body.lines or len(body.lines) > MOST_LINES:
            self.faults.append(f"a batch of {len(body.lines)} lines")
        for place, line in enumerate(body.lines[: known - body.first_seq]):
            if tuple(execution.lines[body.first_seq + place]) != line:
                self.faults.append(f"event {body.first_seq + place} was sent again as {line}")
        for line in body.lines[known - body.first_seq :]:
            if execution.lines and line[0] <= execution.lines[-1][0]:
                self.faults.append(f"the time of event {len(execution.lines)} does not rise")
            execution.lines.append(line)
        last = body.first_seq + len(body.lines)
        for seq, point in body.metadata:
            if not body.first_seq <= seq < last:
                self.faults.append(f"point {seq} is not in its batch")
            if seq >= known:
                execution.metadata.append((seq, point))
        return report.EventsStored(len(execution.lines), self._orders(execution))

    def _output(self, execution: Execution, body: report.NewOutput) -> report.OutputTarget:
        if body.name in self.too_large:
            return report.OutputTarget("", None, "at most 5 GiB", "too_large")
        identity = f"{body.epoch}/{body.name}/{body.sha256}"
        output_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{execution.job.execution_id}/{identity}"))
        execution.outputs[output_id] = body
        path = f"/objects/{execution.job.execution_id}/{output_id}"
        call = None if output_id in execution.stored else Call(self.url + path, "PUT")
        return report.OutputTarget(output_id, call)

    def _stored(self, execution: Execution, output_id: str) -> None:
        path = f"/objects/{execution.job.execution_id}/{output_id}"
        content = self.objects.get(path)
        told = execution.outputs[output_id]
        if content is None or hashlib.sha256(content).hexdigest() != told.sha256:
            self.faults.append(f"output {told.name} is not what was announced")
        execution.stored.add(output_id)

    def _finish(self, execution: Execution, body: report.Finish) -> report.Finished:
        if body.epoch != execution.job.epoch:
            raise Refusal(409, "stale_epoch")
        if "metadata" in self.carries_no and body.output_metadata:
            raise Refusal(413, "")
        if execution.finish is not None:
            if execution.finish != body:
                self.faults.append(f"another end was told: {body}")
            return report.Finished(body.outcome)
        if body.last_seq != len(execution.lines):
            raise Refusal(409, "sequence_gap", expected=len(execution.lines))
        for output_id in body.outputs:
            if output_id not in execution.stored:
                self.faults.append(f"output {output_id} was never stored")
        execution.finish = body
        self.busy = None
        return report.Finished(body.outcome)

    def _orders(self, execution: Execution) -> report.Orders:
        return report.Orders(
            execution.stop,
            execution.lease_seconds,
            self.heartbeat_seconds,
            watched=execution.watched,
            notice=execution.notice,
        )


class _Handler(BaseHTTPRequestHandler):
    server: Control
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        control = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if control.away:
            return self._hang_up()
        if control.answer_503:
            return self._send(503, b"", {"Retry-After": "0"})
        parts = self.path.partition("?")[0].removeprefix("/api/worker/v0/").strip("/").split("/")
        if parts[2:3] == ["job"]:
            return self._job_call(parts, body)
        kind = {"several": "outputs"}.get(parts[-1], parts[-1])
        if len(body) > MOST_BYTES:
            control.faults.append(f"{kind}: {len(body)} bytes")
        with control.lock:
            control.seen[kind] += 1
            control.bodies.setdefault(kind, json.loads(body))
            try:
                answer: Any = control.answer(kind, parts, self.headers.get("Authorization", ""), json.loads(body))
                status = 200
            except Refusal as refusal:
                status, answer = refusal.status, refusal.body
            lost = control.lose[kind] > 0
            control.lose[kind] -= lost
        if hook := control.on.pop(kind, None):
            hook()
        time.sleep(control.way_seconds)
        if lost:
            return self._hang_up()
        return self._send(status, json.dumps(encode(answer)).encode())

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].removeprefix("/api/worker/v0/").strip("/").split("/")
        if parts[2:3] == ["job"]:
            return self._job_call(parts, b"")
        content = self.server.objects.get(self.path.partition("?")[0])
        return self._send(404, b"") if content is None else self._send(200, content)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            if self.path in self.server.objects:
                return self._send(412, b"")
            self.server.objects[self.path] = content
        return self._send(200, b"")

    def _job_call(self, parts: list[str], body: bytes) -> None:
        execution = self.server.executions[parts[1]]
        if parts[3] == "inputs":
            url = f"{self.server.url}/objects/{parts[1]}/late"
            return self._send(
                200, json.dumps([{"files": [{"filename": "late", "url": url, "input_id": "i"}]}]).encode()
            )
        execution.status_detail.append(json.loads(body)["status_detail"])
        return self._send(200, b"{}")

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


def archive_of(files: Mapping[str, str]) -> bytes:
    """A repository as the control plane archives it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()
