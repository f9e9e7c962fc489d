"""A whole life, from submission to the machine's end, with a fault at every outside effect on the way."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.clouds.memory import MemoryCloud
from adapters.metadata.memory import MemoryMetadata
from lamplighter import keys
from lamplighter.domain.executions import Status
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import Forbidden, NotAuthenticated, SequenceGap, StaleEpoch
from lamplighter.records import find
from lamplighter.usecases import attempts, browse
from lamplighter.usecases.check_order import SubmitExecution
from lamplighter.usecases.stop_execution import stop_execution
from lamplighter.usecases.submit_execution import submit_execution
from tests.doubles import SteppingClock
from tests.faults import FaultCloud, FaultMetadata, FaultPlan, FaultStore, Scenario, enumerate_faults
from tests.life import Agent, Life

LINES = ("one", "one", '{"loss": 0.5}')


class Worker:
    """An agent that remembers how far it came, as the real one does on its disk, and goes on from there after any failure."""

    def __init__(self, life: Life, machine_id: str) -> None:
        self.agent = Agent(life, machine_id)
        self.claims = 0
        self.stage = "register"
        self.off = False
        self.noticed = False
        self.given: dict[str, str] = {}

    def step(self) -> None:
        """One more call. A refusal that means the end of the session, or of the lease, is obeyed."""
        try:
            getattr(self, f"_{self.stage}")()
        except (NotAuthenticated, Forbidden):
            self.off = True
        except StaleEpoch:
            self._forget()
        except SequenceGap as gap:
            self.agent.seq = gap.expected

    def _register(self) -> None:
        self.agent.register()
        self.stage = "claim"

    def _claim(self) -> None:
        offer = self.agent.claim(f"claim-{self.claims}")
        self.off = offer.order == "drain"
        if offer.job:
            self.stage, self.first = "start", offer.job.next_seq

    def _start(self) -> None:
        self.agent.start()
        self.given = self.agent.restart_files()
        self.stage = "say"

    def _say(self) -> None:
        self.agent.seq = self.first
        self.agent.say(*LINES)
        self.stage = "output"

    def _output(self) -> None:
        self.agent.outputs = []
        self.agent.output("model.bin", b"weights", {"valohai.alias": "best"})
        self.stage = "finish"

    def _finish(self) -> None:
        self.agent.heartbeat()
        stopped = self.agent.life.execution(self.agent.execution_id).stop is not None
        if self.noticed:
            self.agent.finish("interrupted", notice="interruption")
            self.off = True
        else:
            self.agent.finish("stopped" if stopped else "complete", exit_code=0)
        self._forget()

    def _forget(self) -> None:
        self.claims += 1
        self.stage = "claim"


class Whole:
    """A control plane, its client and its agents, driven round by round until nothing moves any more."""

    def __init__(
        self,
        plan: FaultPlan,
        *,
        stop_at_round: int | None = None,
        lose_at_round: int | None = None,
        interrupt_first: bool = False,
    ) -> None:
        clock = SteppingClock()
        self.inner_cloud = MemoryCloud(clock)
        self.life = Life(
            FaultMetadata(MemoryMetadata(), plan),
            FaultCloud(self.inner_cloud, plan),
            lambda store: FaultStore(store, plan),
            clock=clock,
            idle_seconds=30,
        )
        self.workers: dict[str, Worker] = {}
        self.execution_id = ""
        self.round = 0
        self.stop_at, self.lose_at = stop_at_round, lose_at_round
        self.interrupt_first = interrupt_first

    def drive(self) -> None:
        """Goes on from wherever an earlier try broke off; every process of ours is new."""
        self.life.open(self.life.world.metadata)
        while not self._over():
            self.round += 1
            assert self.round < 400, "it does not come to rest"
            self._turn()

    def _turn(self) -> None:
        life = self.life
        if not self.execution_id:
            wish = {"inputs": {"images": []}, "autorestart": self.interrupt_first}
            order = SubmitExecution(life.project.id, life.commit.identifier, "train", **wish)
            made = submit_execution(life.principal, order, idempotency_key="once", world=life.world)
            self.execution_id = made.id
        if self.stop_at is not None and self.round >= self.stop_at:
            stop_execution(life.principal, self.execution_id, world=life.world)
        life.clock.advance(seconds=4)
        life.sweep()
        for machine in self.inner_cloud.inventory():
            if not machine.ended:
                machine_id = machine.request.machine_id
                worker = self.workers.setdefault(machine_id, Worker(life, machine_id))
                worker.noticed = self.interrupt_first and worker is next(iter(self.workers.values()))
                self._lose_or_step(worker)

    def _lose_or_step(self, worker: Worker) -> None:
        if self.lose_at is not None and self.round >= self.lose_at and worker.stage not in ("register", "claim"):
            self.lose_at = None
            worker.off = True
        if worker.off:
            self.inner_cloud.lose(worker.agent.machine_id)
        else:
            worker.step()

    def _over(self) -> bool:
        if not self.execution_id or not self.life.execution(self.execution_id).status.terminal:
            return False
        life = self.life
        partitions = (*keys.OUTBOX, keys.live_of_environment(life.environment().id))
        busy = any(life.world.metadata.query(p, limit=1).records for p in partitions)
        return not busy and not life.machines()


def check(whole: Whole, allowed: set[Status]) -> None:
    """S1-S7, S10-S14, S21 and the end of every machine, read from the records."""
    life = whole.life
    execution = life.execution(whole.execution_id)
    metadata = life.world.metadata
    pool = metadata.get(keys.capacity(life.environment().id))
    events = browse.read_events(life.principal, execution.id, 0, world=life.world).events
    said = [text for _, stream, text in events if stream == "stdout"]
    outputs = [d.name for d in attempts.outputs_of(execution, world=life.world)]
    ends = [
        text for _, stream, text in events if stream == "status" and text.startswith(("Complete", "Stopped", "Crashed"))
    ]
    assert execution.status in allowed
    assert execution.counter == 1
    assert len(ends) == 1
    assert len({time for time, _, _ in events}) == len(events)
    assert said == list(LINES) * (len(said) // len(LINES))
    assert len(outputs) == (1 if said and execution.status is Status.COMPLETE else len(outputs)) <= 1
    assert not metadata.query(keys.queue(life.environment().id)).records
    assert not metadata.query("outbox-parked").records
    assert pool
    assert pool.value["count"] == 0
    for machine in whole.inner_cloud.inventory():
        found = find(metadata, Machine, keys.machine(machine.request.machine_id))
        assert machine.ended
        assert found
        assert found.value.state is MachineState.GONE


def check_restarted(whole: Whole) -> None:
    """The first attempt was interrupted once, and the one that completed went on from its file."""
    check(whole, {Status.COMPLETE})
    execution = whole.life.execution(whole.execution_id)
    last = [
        worker for worker in whole.workers.values() if worker.agent.job and worker.agent.epoch.n == execution.epoch_n
    ]
    assert 1 <= execution.infrastructure_losses == execution.carried_n == execution.epoch_n - 1
    assert [worker.given for worker in last] == [{"model.bin": "weights"}]
    for datum in attempts.carried(execution, world=whole.life.world):
        assert whole.life.world.metadata.get(keys.used_by(datum.id, execution.id))


def enumerate_lives(allowed: set[Status], **story: Any) -> tuple[int, int]:
    scenario: Scenario[Whole] = Scenario(
        world=lambda plan: Whole(plan, **story), act=lambda whole: whole.drive(), redeliver=lambda whole: whole.drive()
    )
    done = enumerate_faults(scenario, lambda whole: check(whole, allowed))
    return done.effects, done.schedules


def test_a_run_survives_any_single_fault():
    effects, schedules = enumerate_lives({Status.COMPLETE})

    assert effects == EFFECTS_OF_A_RUN
    assert schedules == 5 * effects


@pytest.mark.parametrize("stop_at", [1, 2, 4, 6, 9])
def test_a_stop_survives_any_single_fault(stop_at: int):
    _, schedules = enumerate_lives({Status.STOPPED, Status.COMPLETE}, stop_at_round=stop_at)

    assert schedules > 50


def test_the_loss_of_a_machine_survives_any_single_fault():
    _, schedules = enumerate_lives({Status.COMPLETE}, lose_at_round=6)

    assert schedules > 50


def test_an_interruption_survives_any_single_fault():
    scenario: Scenario[Whole] = Scenario(
        world=lambda plan: Whole(plan, interrupt_first=True),
        act=lambda whole: whole.drive(),
        redeliver=lambda whole: whole.drive(),
    )

    done = enumerate_faults(scenario, check_restarted)

    assert done.schedules == 5 * done.effects


EFFECTS_OF_A_RUN = 43
"""Every outside effect of a run's life is counted here, so that a new one cannot slip by unexamined."""
