"""A cloud takes machines back: with a word before, or without one; and runs go on from what they have stored."""

from __future__ import annotations

from typing import Any

import pytest

from lamplighter import keys
from lamplighter.domain.data import Datum
from lamplighter.domain.executions import MAX_INFRASTRUCTURE_LOSSES, Execution, Status
from lamplighter.domain.machines import MachineState
from lamplighter.records import find
from lamplighter.usecases import attempts, browse, cloud_events
from lamplighter.usecases.data import purge_datum
from lamplighter.usecases.stop_execution import stop_execution
from tests.life import Agent, Life, with_agent

INTERRUPTED: dict[str, Any] = {
    "outcome": "interrupted",
    "notice": "interruption",
    "reason": "the cloud takes the machine back",
}


def running(life: Life, claim: str = "claim-1", **order: Any) -> Agent:
    """An agent whose user code runs; submits first unless something waits already."""
    if order.pop("submit", True):
        life.submit(**order)
    agent = with_agent(life)
    agent.claim(claim)
    agent.start()
    return agent


def gone(life: Life, agent: Agent) -> None:
    """The notice has come true."""
    life.cloud.lose(agent.machine_id)
    life.sweep(seconds=5)


def names(life: Life, execution: Execution) -> list[str]:
    return [d.name for d in attempts.outputs_of(execution, world=life.world)]


def test_a_notice_reaches_the_agent_in_every_answer_and_the_machine_gets_no_other_job():
    life = Life(max_machines=1)
    agent = running(life)
    cloud_id = life.machine(agent.machine_id).cloud_id

    cloud_events.spot_notice("local", cloud_id, "rebalance", world=life.world)
    first = agent.heartbeat(1).notice
    cloud_events.spot_notice("local", cloud_id, "interruption", world=life.world)
    cloud_events.spot_notice("local", cloud_id, "rebalance", world=life.world)
    later = [agent.heartbeat(2).notice, agent.heartbeat(2).notice]
    agent.finish(exit_code=0)
    waiting = life.submit()

    assert first == "rebalance"
    assert later == ["interruption", "interruption"]
    assert agent.claim("claim-2").order == "drain"
    assert life.machine(agent.machine_id).state is MachineState.DRAINING
    assert life.execution(waiting.id).status is Status.QUEUED


def test_a_notice_that_only_the_machine_has_heard_is_kept_from_its_heartbeat():
    life = Life()
    agent = running(life)

    answers = [agent.heartbeat(1, notice="rebalance").notice, agent.heartbeat(2).notice]
    agent.finish(exit_code=0)

    assert answers == ["rebalance", "rebalance"]
    assert agent.claim("claim-2").order == "drain"


def test_with_autorestart_the_next_attempt_is_given_what_the_first_has_stored():
    life = Life()
    first = running(life, autorestart=True)
    first.say('{"epoch": 3}', points=True)
    datum_id = first.output("checkpoints/last.ckpt", b"step 3")
    status = first.finish(**INTERRUPTED)
    waiting = life.execution(first.execution_id)
    gone(life, first)

    second = running(life, "claim-2", submit=False)
    given = second.restart_files()
    execution = life.execution(first.execution_id)
    inputs = {i.name: i.urls for i in attempts.inputs_of(execution, world=life.world)}
    second.output("model.bin", b"weights")
    done = second.finish(exit_code=0)

    assert (status, waiting.infrastructure_losses, names(life, waiting)) == ("queued", 1, ["checkpoints/last.ckpt"])
    assert waiting.latest_metadata == {"epoch": 3}
    assert second.epoch > first.epoch
    assert given == {"checkpoints/last.ckpt": "step 3"}
    assert inputs["_restart"] == (f"datum://{datum_id}",)
    assert life.world.metadata.get(keys.used_by(datum_id, execution.id))
    ended = life.execution(execution.id)
    assert (done, names(life, ended), ended.n_outputs) == ("complete", ["model.bin"], 1)


def test_over_several_restarts_the_files_of_all_attempts_are_given_and_of_one_name_the_latest():
    life = Life()
    agent = running(life, autorestart=True)
    for n, files in enumerate([{"a": b"1", "b": b"1"}, {"b": b"2", "c": b"2"}, {"c": b"3"}]):
        for name, content in files.items():
            agent.output(name, content)
        agent.finish(**INTERRUPTED)
        gone(life, agent)
        agent = running(life, f"claim-{n + 2}", submit=False)

    assert agent.restart_files() == {"a": "1", "b": "2", "c": "3"}


def test_a_file_that_was_purged_meanwhile_is_not_given_and_hinders_nothing():
    life = Life()
    agent = running(life, autorestart=True)
    agent.output("keep", b"1")
    purged = agent.output("secret", b"2")
    agent.finish(**INTERRUPTED)
    gone(life, agent)
    purge_datum(life.principal, purged, world=life.world)
    again = running(life, "claim-2", submit=False)

    assert again.restart_files() == {"keep": "1"}


def test_without_autorestart_an_interrupted_run_ends_with_what_it_saved():
    life = Life()
    agent = running(life)
    agent.output("last.ckpt", b"step 3")
    status = agent.finish(**INTERRUPTED)
    life.settle()

    ended = life.execution(agent.execution_id)
    assert status == ended.status == Status.CRASHED
    assert ended.status_detail.startswith("The cloud takes the machine back")
    assert "autorestart" in ended.status_detail
    assert names(life, ended) == ["last.ckpt"]


def test_an_attempt_that_had_not_begun_to_run_waits_again_in_any_case():
    life = Life()
    life.submit()
    agent = with_agent(life)
    agent.claim()

    assert agent.finish(**INTERRUPTED) == Status.QUEUED


def test_a_shutdown_that_is_no_notice_queues_the_run_again_from_the_beginning():
    life = Life()
    agent = running(life)
    agent.output("half", b"1")
    status = agent.finish("interrupted", reason="the machine is being shut down")
    gone(life, agent)
    again = running(life, "claim-2", submit=False)

    assert status == Status.QUEUED
    assert again.restart_files() == {}


def test_a_stop_outweighs_an_interruption():
    life = Life()
    agent = running(life, autorestart=True)
    stop_execution(life.principal, agent.execution_id, world=life.world)

    assert agent.finish(**INTERRUPTED) == Status.STOPPED


def test_a_machine_that_vanished_without_a_word_leaves_what_was_stored_and_nothing_half():
    life = Life()
    first = running(life, autorestart=True)
    first.output("stored", b"whole")
    half = first.announce("half", b"not yet")
    gone(life, first)
    second = running(life, "claim-2", submit=False)
    life.settle()

    left = find(life.world.metadata, Datum, keys.datum(half))
    assert second.restart_files() == {"stored": "whole"}
    assert left
    assert left.value.discarded


@pytest.mark.parametrize("word", [True, False])
def test_five_losses_are_gone_on_from_and_the_sixth_gives_up(word: bool):
    life = Life()
    execution = life.submit(autorestart=True)
    for n in range(MAX_INFRASTRUCTURE_LOSSES + 1):
        agent = running(life, f"claim-{n}", submit=False)
        agent.output(f"ckpt-{n}", b"x")
        if word:
            agent.finish(**INTERRUPTED)
        gone(life, agent)

    ended = life.execution(execution.id)
    assert ended.status is Status.CRASHED
    assert "lost 6 times" in ended.status_detail
    assert len(attempts.carried(ended, world=life.world)) == MAX_INFRASTRUCTURE_LOSSES
    assert names(life, ended) == [f"ckpt-{MAX_INFRASTRUCTURE_LOSSES}"]


def test_the_log_of_all_attempts_is_read_as_one():
    life = Life()
    first = running(life, autorestart=True)
    first.say("one")
    first.finish(**INTERRUPTED)
    gone(life, first)
    second = running(life, "claim-2", submit=False)
    second.say("two")
    second.finish(exit_code=0)

    events = browse.read_events(life.principal, first.execution_id, 0, world=life.world).events
    assert [text for _, stream, text in events if stream == "stdout"] == ["one", "two"]
