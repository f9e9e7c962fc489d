"""What an agent's reports cost, and what the answers say: whether to stop, who looks, until when the lease holds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from lamplighter import keys
from lamplighter.contract.wire import encode
from lamplighter.domain.executions import Status
from lamplighter.ports import Put
from lamplighter.usecases import browse
from lamplighter.usecases.stop_execution import stop_execution
from tests.life import Agent, Life, with_agent
from tests.recording import Counted


def running(*, live_logs: bool = False) -> tuple[Life, Agent, Counted]:
    """An installation that pays for each read and write, with a run on it."""
    metadata = Counted()
    life = Life(metadata)
    life.world = replace(life.world, installation=replace(life.world.installation, live_logs=live_logs))
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()
    agent.heartbeat(1, "running")
    metadata.forget()
    return life, agent, metadata


def test_a_heartbeat_with_nothing_new_costs_two_calls_to_read_and_one_small_write():
    _, agent, metadata = running()

    agent.heartbeat(2, "running")

    lease, watched = keys.lease(agent.execution_id), keys.watched(agent.execution_id)
    kinds = [[key.sort for key in asked] for asked in metadata.asked]
    assert kinds == [["machine"], [lease.sort, watched.sort]]
    assert [[(type(w), w.key) for w in writes] for writes in metadata.written] == [[(Put, lease)]]


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
    _, agent, metadata = running()
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


def test_a_machine_that_speaks_again_is_not_shown_as_unreachable_any_more():
    life, agent, _ = running()
    for _ in range(4):
        life.sweep(seconds=30)
    silent = life.execution(agent.execution_id).status_detail

    agent.heartbeat(2, "running")

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
