"""What an agent's reports cost, and what the answers say: whether to stop, who looks, until when the lease holds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lamplighter import keys
from lamplighter.contract.report import Notice, OutputsStored
from lamplighter.contract.wire import encode
from lamplighter.domain.executions import Status
from lamplighter.ports import Put
from lamplighter.usecases import browse, store_outputs
from lamplighter.usecases.sessions import machine_of
from lamplighter.usecases.stop_execution import stop_execution
from tests.life import Agent, Life, with_agent
from tests.recording import Counted


def running(
    *, live_logs: bool = False, heartbeat_seconds: float = 30.0, **environment: Any
) -> tuple[Life, Agent, Counted]:
    """An installation that pays for each read and write, with a run on it."""
    metadata = Counted()
    life = Life(metadata, **environment)
    changed = replace(life.world.installation, live_logs=live_logs, heartbeat_seconds=heartbeat_seconds)
    life.world = replace(life.world, installation=changed)
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()
    agent.heartbeat(1, "running")
    metadata.forget()
    return life, agent, metadata


def test_heartbeats_with_nothing_new_cost_two_calls_to_read_and_every_second_time_one_small_write():
    life, agent, metadata = running()
    lease, watched = keys.lease(agent.execution_id), keys.watched(agent.execution_id)
    written = []
    for seq in range(2, 8):
        life.clock.advance(seconds=life.world.installation.heartbeat_seconds)
        metadata.forget()
        agent.heartbeat(seq, "running")
        assert [[key.sort for key in asked] for asked in metadata.asked] == [["machine"], [lease.sort, watched.sort]]
        written.append([[(type(w), w.key) for w in writes] for writes in metadata.written])

    assert written == [[], [[(Put, lease)]]] * 3


@pytest.mark.parametrize(
    ("phase", "notice"), [("fetching code", ""), ("running", "rebalance"), ("running", "interruption")]
)
def test_a_heartbeat_with_something_new_is_written_at_once(phase: str, notice: Notice):
    life, agent, metadata = running()
    life.clock.advance(seconds=1)

    agent.heartbeat(2, phase, notice)

    assert keys.lease(agent.execution_id) in [w.key for writes in metadata.written for w in writes]


def test_every_heartbeat_renews_a_lease_that_is_short():
    life, agent, metadata = running(lease_seconds=60)
    for seq in range(2, 5):
        life.clock.advance(seconds=life.world.installation.heartbeat_seconds)
        agent.heartbeat(seq, "running")

    assert len(metadata.written) == 3


def test_a_heartbeat_is_written_when_the_last_on_record_is_of_a_clock_that_is_ahead():
    life, agent, metadata = running()
    life.clock.advance(hours=-1)

    left = agent.heartbeat(2, "running").lease_seconds

    assert len(metadata.written) == 1
    assert left <= life.lease(agent.execution_id).seconds


@pytest.mark.parametrize("seed", range(20))
def test_no_answer_promises_more_of_the_lease_than_is_on_record(seed: int):
    """The agent counts from before it asked: were an answer to say more, it could run on after somebody else may."""
    life, agent, _ = running(lease_seconds=300)
    chance = random.Random(seed)
    seq = 1
    for _ in range(60):
        sent_at = life.clock()
        life.clock.advance(seconds=chance.choice([0, 0.3, 7]))  # on the way
        said = chance.choice(["beat", "beat", "again", "late", "phase", "log", "log again", "start", "output", "claim"])
        if said in ("beat", "phase"):
            seq += 1
        promised = ASKED[said](agent, seq)
        on_record = life.lease(agent.execution_id).expires_at

        assert on_record
        assert promised == 0 or sent_at + timedelta(seconds=promised) <= on_record, said
        life.clock.advance(seconds=chance.choice([0, 1, 20, 31, 60, 140]))


def _claimed_again(agent: Agent) -> int:
    job = agent.claim().job
    assert job
    return job.lease_seconds


def _log_again(agent: Agent) -> int:
    agent.seq = 0
    return agent.say("one").lease_seconds


def _output(agent: Agent) -> int:
    output_id = agent.output("model.bin", b"weights")
    message = OutputsStored(agent.epoch, (output_id,))
    machine = machine_of(agent.session, world=agent.life.world).value
    kept = store_outputs.outputs_stored(machine, agent.execution_id, message, world=agent.life.world)
    return kept.orders.lease_seconds


ASKED: dict[str, Callable[[Agent, int], int]] = {
    "beat": lambda agent, seq: agent.heartbeat(seq, "running").lease_seconds,
    "again": lambda agent, seq: agent.heartbeat(seq, "running").lease_seconds,
    "late": lambda agent, seq: agent.heartbeat(seq - 1, "running").lease_seconds,
    "phase": lambda agent, seq: agent.heartbeat(seq, f"phase {seq}").lease_seconds,
    "log": lambda agent, _: agent.say("one").lease_seconds,
    "log again": lambda agent, _: _log_again(agent),
    "start": lambda agent, _: agent.start().lease_seconds,
    "output": lambda agent, _: _output(agent),
    "claim": lambda agent, _: _claimed_again(agent),
}


@pytest.mark.parametrize("heartbeat_seconds", [3.0, 20.0, 30.0])
def test_a_healthy_agent_is_never_shown_as_unreachable_though_half_of_its_heartbeats_are_not_written(
    heartbeat_seconds: float,
):
    life, agent, _ = running(heartbeat_seconds=heartbeat_seconds)
    unreachable = []
    for seq in range(2, 30):
        for part in (0.45, 1.45) if seq % 2 else (1.0, 0.1):  # late ones, and one that is lost
            unreachable.append(life.sweep(seconds=part * heartbeat_seconds).unreachable)
        if seq % 7:
            agent.heartbeat(seq, "running")

    assert set(unreachable) == {0}


def test_on_one_server_nobody_asks_who_looks():
    _, agent, metadata = running(live_logs=True)

    answer = agent.heartbeat(2, "running")

    assert answer.watched
    assert metadata.asked[-1] == [keys.lease(agent.execution_id)]


def test_the_record_that_every_heartbeat_writes_stays_below_a_kilobyte():
    life, agent, _ = running()
    agent.heartbeat(10**9, "\N{SNOWMAN}" * 10_000)
    agent.say("x")

    assert len(json.dumps(encode(life.lease(agent.execution_id)))) < 1000


def test_a_heartbeat_that_comes_twice_or_too_late_writes_nothing():
    life, agent, metadata = running()
    life.clock.advance(minutes=1)
    agent.heartbeat(5, "running")
    metadata.forget()

    agent.heartbeat(5, "running")
    agent.heartbeat(3, "long ago")

    assert metadata.written == []


def test_a_phase_is_shown_once_it_changes_and_until_user_code_runs():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    shown = []
    for seq, phase in enumerate(["fetching code", "fetching code", "preparing the image"], start=1):
        agent.heartbeat(seq, phase)
        shown.append(life.execution(execution.id).status_detail)
    agent.start()
    agent.heartbeat(4, "running")

    assert shown == ["fetching code", "fetching code", "preparing the image"]
    assert life.execution(execution.id).status_detail == ""


@pytest.mark.parametrize("speak", [lambda agent: agent.heartbeat(2, "running"), lambda agent: agent.say("one")])
def test_a_machine_that_speaks_again_is_not_shown_as_unreachable_any_more(speak: Callable[[Agent], Any]):
    life, agent, _ = running()
    for _ in range(6):
        life.sweep(seconds=30)
    silent = life.execution(agent.execution_id).status_detail

    speak(agent)

    assert silent.startswith("Unreachable")
    assert life.execution(agent.execution_id).status_detail == ""


def test_a_batch_of_the_log_renews_the_lease_also_when_it_comes_again():
    life, agent, _ = running()
    ends = [life.lease(agent.execution_id).expires_at]
    for _ in range(2):
        life.clock.advance(seconds=50)
        agent.seq = 0
        agent.say("one")
        ends.append(life.lease(agent.execution_id).expires_at)

    quiet = life.sweep(seconds=50)

    first, second, third = (end for end in ends if end)
    assert second - first >= timedelta(seconds=50)
    assert third - second >= timedelta(seconds=50)
    assert quiet.unreachable == 0


def test_the_log_is_asked_for_at_once_while_somebody_reads_it_and_not_afterwards():
    life, agent, _ = running()

    before = agent.heartbeat(2, "running").watched
    browse.read_events(life.principal, agent.execution_id, 10, world=life.world)
    during = agent.heartbeat(3, "running").watched
    life.clock.advance(minutes=2)
    after = agent.heartbeat(4, "running").watched

    assert (before, during, after) == (False, True, False)


def test_a_reader_who_polls_each_second_is_noted_once_a_minute_and_never_lost_sight_of():
    life, agent, metadata = running()
    seen = []
    for _ in range(180):
        browse.read_events(life.principal, agent.execution_id, 10, world=life.world)
        life.clock.advance(seconds=1)
        seen.append(agent.heartbeat(len(seen) + 2, "running").watched)

    notes = [writes for writes in metadata.written if writes[0].key == keys.watched(agent.execution_id)]
    assert all(seen)
    assert len(notes) <= 3


def test_whoever_reads_what_has_ended_is_not_noted():
    life, agent, metadata = running()
    agent.finish(exit_code=0)
    metadata.forget()

    browse.read_events(life.principal, agent.execution_id, 10, world=life.world)
    browse.read_metadata(life.principal, agent.execution_id, world=life.world)

    assert metadata.written == []


def test_a_stop_is_told_in_every_answer_without_a_look_at_the_execution():
    life, agent, metadata = running()
    stop_execution(life.principal, agent.execution_id, world=life.world)
    metadata.forget()

    told = [agent.heartbeat(n, "running").stop for n in (2, 3)]

    assert told == ["user", "user"]
    assert keys.execution(agent.execution_id) not in [key for asked in metadata.asked for key in asked]
    assert agent.finish("stopped") == Status.STOPPED
