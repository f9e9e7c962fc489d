"""The whole control plane in memory, with an agent that is moved by hand: one execution's life, step by step."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.clouds.memory import MemoryCloud
from adapters.stores.memory import MemoryStore
from adapters.workflow.embedded import EmbeddedWorkflow
from lamplighter import keys
from lamplighter.contract.job import Epoch, Job
from lamplighter.contract.report import (
    Claim,
    Events,
    Finish,
    Heartbeat,
    Held,
    NewOutput,
    Notice,
    Offer,
    Orders,
    Outcome,
    OutputStored,
    Register,
    Registered,
    Started,
)
from lamplighter.domain.data import Datum
from lamplighter.domain.environments import Environment
from lamplighter.domain.executions import Execution
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine
from lamplighter.domain.projects import Principal
from lamplighter.errors import AlreadyWritten
from lamplighter.ports import Metadata, Store
from lamplighter.records import find, find_many, need, walk
from lamplighter.usecases import machines, report, store_outputs
from lamplighter.usecases.check_order import SubmitExecution
from lamplighter.usecases.commits import Package, import_package
from lamplighter.usecases.deliver_outbox import deliver_outbox
from lamplighter.usecases.environments import resolve_environment
from lamplighter.usecases.finish_execution import finish_execution
from lamplighter.usecases.initialise import initialise
from lamplighter.usecases.lease_job import lease_job
from lamplighter.usecases.projects import create_project
from lamplighter.usecases.registration import register_machine
from lamplighter.usecases.sessions import machine_of
from lamplighter.usecases.submit_execution import submit_execution
from lamplighter.usecases.sweep import sweep
from lamplighter.usecases.sweep_report import SweepReport
from lamplighter.usecases.workflow_tasks import perform
from lamplighter.world import World
from tests.doubles import TRAIN_YAML, MemoryStores, SteppingClock, make_world, targz

DEFINITIONS = {
    name: json.loads((Path(__file__).parents[1] / "state_machines" / f"{name}.asl.json").read_text())
    for name in ("execution", "machine")
}


class Life:
    """A world in which one project can run its step `train`. `metadata`, `cloud` and `store` may be wrapped to inject faults.

    `self.store` is the store as others see it, behind our back.
    """

    def __init__(
        self,
        metadata: Metadata | None = None,
        cloud: Any = None,
        store: Callable[[Store], Store] = lambda store: store,
        clock: SteppingClock | None = None,
        cloud_name: str = "local",
        **environment: Any,
    ) -> None:
        self.clock = clock or SteppingClock()
        self.cloud = cloud or MemoryCloud(self.clock)
        self.store = MemoryStore()
        parts: dict[str, Any] = {"now": self.clock, "clouds": {cloud_name: self.cloud}}
        parts["stores"] = MemoryStores({"default": store(self.store)})
        if metadata is not None:
            parts["metadata"] = metadata
        world = make_world(**parts)
        world.secrets.put("installation/join-key", "test")
        self.world: World = world
        self.open(world.metadata)
        first = {"slug": "local", "name": "This server", "cloud": cloud_name, "max_machines": 2} | environment
        made = initialise(admin_password="secret", environment=first, world=self.world)
        self.principal = Principal(made.admin_user_id, "admin", made.organisation_id, "admin")
        self.project = create_project(self.principal, "digits", world=self.world)
        code = targz({"valohai.yaml": TRAIN_YAML, "train.py": b"print(1)"})
        package = Package(lambda: io.BytesIO(code), hashlib.sha256(code).hexdigest(), len(code))
        self.commit = import_package(
            self.principal, self.project.id, package, description="", yaml_path="valohai.yaml", world=self.world
        )

    def open(self, metadata: Metadata) -> None:
        """(Re)start the control plane on these records, as after a crash."""
        workflow = EmbeddedWorkflow(
            metadata, DEFINITIONS, lambda payload: perform(payload, world=self.world), self.clock, self.world.new_id
        )
        self.world = replace(self.world, metadata=metadata, workflow=workflow)
        self.workflow = workflow

    def submit(self, **order: Any) -> Execution:
        """Ask for one run of `train`."""
        wish = SubmitExecution(self.project.id, self.commit.identifier, "train", **({"inputs": {"images": []}} | order))
        return submit_execution(self.principal, wish, world=self.world)

    def settle(self, rounds: int = 30) -> None:
        """Let outbox and state machines run until nothing more is due."""
        for _ in range(rounds):
            delivered = deliver_outbox(world=self.world)
            ran = self.workflow.run_due(self.clock())
            if not delivered and not ran:
                return

    def sweep(self, **later: float) -> SweepReport:
        """Let time pass, then sweep and settle."""
        self.clock.advance(**later)
        found = sweep(world=self.world)
        self.settle()
        return found

    def execution(self, execution_id: str) -> Execution:
        return need(self.world.metadata, Execution, keys.execution(execution_id), "it").value

    def lease(self, execution_id: str) -> Lease:
        return need(self.world.metadata, Lease, keys.lease(execution_id), "it").value

    def environment(self) -> Environment:
        return resolve_environment(self.principal, "local", project=None, step_environment=None, world=self.world)

    def machines(self) -> list[Machine]:
        """Those that are not gone."""
        rows = walk(self.world.metadata, keys.machines(self.environment().id))
        return [s.value for s in find_many(self.world.metadata, Machine, [keys.machine(r.key.sort) for r in rows])]

    def machine(self, machine_id: str) -> Machine:
        found = find(self.world.metadata, Machine, keys.machine(machine_id))
        assert found
        return found.value


class Agent:
    """Speaks the worker contract for one machine, one call at a time."""

    def __init__(self, life: Life, machine_id: str) -> None:
        self.life = life
        self.machine_id = machine_id
        self.session = ""
        self.job: Job | None = None
        self.seq = 0
        self.outputs: list[str] = []

    def register(self) -> Registered:
        token = machines.join_token(self.machine_id, world=self.life.world)
        hello = Register(self.machine_id, "1", "process", "host", 2, 4096, 10_000)
        answer = register_machine(token, hello, world=self.life.world)
        self.session = answer.session
        return answer

    def claim(self, claim_id: str = "claim-1") -> Offer:
        offer = lease_job(self.session, Claim(claim_id), world=self.life.world)
        if offer.job:
            self.job, self.seq = offer.job, offer.job.next_seq
        return offer

    @property
    def _machine(self) -> Machine:
        return machine_of(self.session, world=self.life.world).value

    @property
    def epoch(self) -> Epoch:
        assert self.job
        return self.job.epoch

    @property
    def execution_id(self) -> str:
        assert self.job
        return self.job.execution_id

    def start(self) -> Orders:
        message = Started(self.epoch, "process", "", "python")
        return report.started(self._machine, self.execution_id, message, world=self.life.world)

    def heartbeat(self, seq: int = 1, phase: str = "", notice: Notice = "") -> Orders:
        message = Heartbeat(self.epoch, seq, phase, notice)
        return report.heartbeat(self._machine, self.execution_id, message, world=self.life.world)

    def restart_files(self) -> dict[str, str]:
        """What the next steps of this attempt would find under `_restart`: file names and contents."""
        held = Held(self.epoch)
        answer = report.list_inputs(self._machine, self.execution_id, held, world=self.life.world)
        found = {}
        for file in [f for item in answer.inputs if item.name == "_restart" for f in item.files]:
            datum = need(self.life.world.metadata, Datum, keys.datum(file.datum_id or ""), "it").value
            found[file.path] = b"".join(self.life.store.get(datum.object_key)).decode()
        return found

    def say(self, *lines: str, points: bool = False) -> Orders:
        at = 1_767_600_000_000_000 + self.seq
        said = tuple((at + i, 0, text) for i, text in enumerate(lines))
        metadata = tuple((self.seq + i, json.loads(t)) for i, t in enumerate(lines) if points)
        message = Events(self.epoch, self.seq, said, metadata)
        answer = report.store_events(self._machine, self.execution_id, message, world=self.life.world)
        self.seq = answer.next_seq
        return answer.orders

    def announce(self, name: str, content: bytes, metadata: dict[str, Any] | None = None) -> str:
        """An output that is spoken of, and whose bytes may never come."""
        digests = {h: hashlib.new(h, content).hexdigest() for h in ("md5", "sha1", "sha256")}
        message = NewOutput(self.epoch, name, len(content), metadata=metadata or {}, **digests)
        target = store_outputs.announce_output(self._machine, self.execution_id, message, world=self.life.world)
        return target.output_id

    def output(self, name: str, content: bytes, metadata: dict[str, Any] | None = None) -> str:
        output_id = self.announce(name, content, metadata)
        datum = need(self.life.world.metadata, Datum, keys.datum(output_id), "it").value
        if not datum.stored:
            with contextlib.suppress(AlreadyWritten):
                self.life.store.put(datum.object_key, io.BytesIO(content), size=len(content))
        store_outputs.output_stored(
            self._machine, self.execution_id, output_id, OutputStored(self.epoch), world=self.life.world
        )
        self.outputs.append(output_id)
        return output_id

    def finish(self, outcome: Outcome = "complete", **more: Any) -> str:
        message = Finish(self.epoch, outcome, self.seq, outputs=tuple(self.outputs), **more)
        stored = machine_of(self.session, world=self.life.world)
        return finish_execution(stored, self.execution_id, message, world=self.life.world).status


def with_agent(life: Life) -> Agent:
    """Settle until a machine was launched, and register the agent of the newest one."""
    life.settle()
    agent = Agent(life, life.machines()[-1].id)
    agent.register()
    life.settle()
    return agent
