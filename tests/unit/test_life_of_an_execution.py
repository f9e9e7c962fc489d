"""One execution's life: queued, leased, run, finished; stopped; lost and queued again; and the machine that goes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lamplighter import keys
from lamplighter.domain.capacity import Pool
from lamplighter.domain.executions import MAX_INFRASTRUCTURE_LOSSES, Status
from lamplighter.domain.machines import MachineState
from lamplighter.errors import Forbidden, NotAuthenticated, SequenceGap, StaleEpoch
from lamplighter.ports import LaunchRequest
from lamplighter.records import need
from lamplighter.usecases import attempts, browse, explain
from lamplighter.usecases.stop_execution import stop_execution
from tests.life import Agent, Life, with_agent


def test_a_submission_lights_one_machine_and_no_second_one():
    life = Life()

    life.submit()
    life.settle()
    life.sweep(seconds=5)

    assert [m.state for m in life.machines()] == [MachineState.REQUESTED]
    assert len(life.cloud.inventory()) == 1


def test_a_run_from_the_queue_to_its_outputs():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)

    offer = agent.claim()
    agent.start()
    agent.say("hello", "world")
    agent.say('{"accuracy": 0.9}', points=True)
    datum_id = agent.output("model.bin", b"weights", {"valohai.tags": ["good"], "valohai.alias": "best"})
    status = agent.finish(exit_code=0)
    life.settle()

    ended = life.execution(execution.id)
    events = browse.read_events(life.principal, execution.id, 0, world=life.world).events
    assert offer.order == "work"
    assert status == ended.status == Status.COMPLETE
    assert ended.latest_metadata == {"accuracy": 0.9}
    assert [text for _, stream, text in events if stream == "stdout"] == ["hello", "world", '{"accuracy": 0.9}']
    assert [(d.id, d.tags, d.aliases) for d in attempts.outputs_of(ended, world=life.world)] == [
        (datum_id, ("good",), ("best",))
    ]
    assert life.machine(agent.machine_id).state is MachineState.IDLE


def test_the_same_claim_gets_the_same_lease_again():
    life = Life()
    life.submit()
    agent = with_agent(life)

    first = agent.claim("claim-1")
    again = agent.claim("claim-1")

    assert first.job
    assert again.job
    assert again.job.epoch == first.job.epoch


def test_events_are_stored_once_however_often_they_are_sent():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()

    agent.say("a", "b")
    agent.seq = 0
    agent.say("a", "b")
    agent.seq = 1
    agent.say("b", "c")

    page = browse.read_events(life.principal, execution.id, 0, world=life.world)
    assert [text for _, stream, text in page.events if stream == "stdout"] == ["a", "b", "c"]


def test_events_that_start_too_late_are_refused_with_the_number_to_go_on_from():
    life = Life()
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.say("a")

    agent.seq = 5
    with pytest.raises(SequenceGap) as gap:
        agent.say("f")

    assert gap.value.expected == 1


def test_an_idle_machine_goes_out_and_frees_its_place():
    life = Life(idle_seconds=60)
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.finish(exit_code=0)
    life.settle()

    assert agent.claim("claim-2").order == "wait"
    life.clock.advance(seconds=61)
    order = agent.claim("claim-3").order
    life.settle()

    assert order == "drain"
    assert life.machines() == []
    assert life.machine(agent.machine_id).state is MachineState.GONE
    with pytest.raises(NotAuthenticated):
        agent.claim("claim-4")


def test_a_waiting_execution_is_stopped_at_once():
    life = Life()
    execution = life.submit()
    life.settle()

    text = stop_execution(life.principal, execution.id, world=life.world)
    agent = with_agent(life)

    assert "stopped" in text
    assert life.execution(execution.id).status is Status.STOPPED
    assert agent.claim().order == "wait"


def test_a_running_execution_is_stopped_through_its_agent():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()

    stop_execution(life.principal, execution.id, world=life.world)
    told = agent.heartbeat().stop
    status = agent.finish("stopped", reason="Stopped by admin")
    again = stop_execution(life.principal, execution.id, world=life.world)

    assert told == "user"
    assert status == Status.STOPPED
    assert "already ended" in again


def test_a_vanished_machine_gives_its_execution_back_to_the_queue():
    life = Life()
    execution = life.submit()
    first = with_agent(life)
    first.claim()
    first.start()
    first.output("half.bin", b"half")

    life.cloud.lose(first.machine_id)
    life.sweep(seconds=5)
    waiting = life.execution(execution.id)
    second = with_agent(life)
    second.claim("claim-2")
    second.start()
    second.output("whole.bin", b"whole")
    second.finish(exit_code=0)

    done = life.execution(execution.id)
    assert waiting.status is Status.QUEUED
    assert waiting.infrastructure_losses == 1
    assert "lost" in waiting.status_detail
    assert done.status is Status.COMPLETE
    assert [d.name for d in attempts.outputs_of(done, world=life.world)] == ["whole.bin"]


def test_a_worker_that_lost_its_lease_cannot_write_anything():
    life = Life(max_machines=3)
    execution = life.submit()
    first = with_agent(life)
    first.claim()
    stale = Agent(life, first.machine_id)
    stale.session, stale.job = first.session, first.job
    life.cloud.lose(first.machine_id)
    life.sweep(seconds=5)
    second = with_agent(life)
    second.claim("claim-2")
    stale.session = second.session
    before = life.execution(execution.id)

    for write in (stale.start, stale.heartbeat, lambda: stale.say("x"), stale.finish):
        with pytest.raises(StaleEpoch):
            write()

    assert life.execution(execution.id) == before


def test_after_too_many_losses_it_is_given_up_as_crashed():
    life = Life()
    execution = life.submit()

    for n in range(MAX_INFRASTRUCTURE_LOSSES + 1):
        agent = with_agent(life)
        agent.claim(f"claim-{n}")
        life.cloud.lose(agent.machine_id)
        life.sweep(seconds=5)

    ended = life.execution(execution.id)
    assert ended.status is Status.CRASHED
    assert "lost 6 times" in ended.status_detail


def test_a_silent_machine_is_shown_as_unreachable_and_then_fenced():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()

    life.sweep()
    suspected = life.sweep(seconds=110)
    shown = life.execution(execution.id).status_detail
    life.sweep(minutes=2)
    fenced = life.sweep(minutes=2)

    assert suspected.unreachable == 1
    assert "silent" in shown
    assert fenced.fenced == 1
    assert life.cloud.inventory()[0].ended
    assert life.execution(execution.id).status is Status.QUEUED


def test_a_machine_that_never_registers_is_put_out_and_the_pool_pauses():
    life = Life(boot_seconds=900)
    execution = life.submit()
    life.settle()
    first = life.machines()[0].id

    life.sweep(seconds=901)
    reasons = explain.explain(life.principal, execution.id, world=life.world).reasons
    life.sweep(seconds=10)

    assert life.machine(first).state is MachineState.GONE
    assert reasons[0].code == "launch_failed"
    assert [m.id != first for m in life.machines()] == [True]
    with pytest.raises((Forbidden, NotAuthenticated)):
        Agent(life, first).register()


def test_a_refused_launch_is_explained_and_tried_again():
    life = Life()
    life.cloud.refuse_capacity()
    execution = life.submit()
    life.settle()

    reasons = explain.explain(life.principal, execution.id, world=life.world).reasons
    life.sweep(minutes=1)

    assert [r.code for r in reasons] == ["launch_failed"]
    assert "no such machine to give now" in reasons[0].text
    assert [m.state for m in life.machines()] == [MachineState.REQUESTED]


def test_a_launch_that_never_gets_better_is_explained_with_what_to_correct():
    life = Life()
    life.cloud.refuse_capacity()
    execution = life.submit()
    life.settle()
    environment_id = life.execution(execution.id).environment_id
    pool = need(life.world.metadata, Pool, keys.capacity(environment_id), "the pool")
    life.world.metadata.transact([pool.becomes(replace(pool.value, last_code="launch_refused"))])

    reason = explain.explain(life.principal, execution.id, world=life.world).reasons[0]

    assert reason.code == "launch_failed"
    assert "does not get better by itself" in reason.unblock
    assert "environment set " in reason.unblock


def test_why_it_waits_is_said_with_numbers():
    life = Life(max_machines=1)
    life.submit()
    agent = with_agent(life)
    agent.claim()
    life.submit()
    last = life.submit()
    life.settle()

    explanation = explain.explain(life.principal, last.id, world=life.world)

    assert [(r.code, dict(r.numbers)) for r in explanation.reasons] == [
        ("machines_busy", {"busy": 1, "booting": 0, "draining": 0, "max_machines": 1}),
        ("queue_position", {"ahead": 1}),
    ]
    assert explain.explained(last, world=life.world).status_detail == explain.sentence(explanation)


def test_higher_priority_goes_first_and_equals_in_order_of_arrival():
    life = Life(max_machines=1)
    for priority in (0, 0, 5):
        life.submit(priority=priority)
    agent = with_agent(life)

    order = []
    for n in range(3):
        agent.outputs = []
        agent.claim(f"claim-{n}")
        order.append(life.execution(agent.execution_id).counter)
        agent.finish(exit_code=0)

    assert order == [3, 1, 2]


def test_a_machine_without_a_record_is_reaped():
    life = Life()
    orphan = LaunchRequest("token", "orphan", life.world.installation.id, "local", "https://x", "join", {})
    stranger = LaunchRequest("other", "stranger", "another installation", "local", "https://x", "join", {})
    for request in (orphan, stranger):
        life.cloud.launch(request)

    at_once = life.sweep(seconds=5)
    found = [life.sweep(minutes=2) for _ in range(3)]

    assert at_once.orphans == 0
    assert [report.orphans for report in found] == [0, 0, 1]
    assert {m.request.machine_id: bool(m.ended) for m in life.cloud.inventory()} == {"orphan": True, "stranger": False}


def test_the_sweep_alone_brings_a_submission_to_a_machine():
    """Events are for speed, the sweep is for correctness: here nothing else ever runs."""
    life = Life()
    execution = life.submit()

    for _ in range(4):
        life.sweep(seconds=5)
    agent = with_agent(life)
    agent.claim()

    assert agent.execution_id == execution.id
