"""How often a machine without work asks for some, and how much of that is written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lamplighter import keys
from tests.life import Agent, Life, with_agent
from tests.recording import Counted


def idle(poll: float, longest: float) -> tuple[Life, Agent, Counted]:
    """A machine whose job has just ended."""
    metadata = Counted()
    life = Life(metadata, idle_seconds=300)
    installation = replace(life.world.installation, poll_seconds=poll, longest_poll_seconds=longest)
    life.world = replace(life.world, installation=installation)
    life.submit()
    agent = with_agent(life)
    agent.claim("first")
    agent.start()
    agent.finish(exit_code=0)
    metadata.forget()
    return life, agent, metadata


def pauses(life: Life, agent: Agent) -> list[tuple[float, float]]:
    """Its questions until it is put out: after how much idle time, and how long it is told to wait."""
    began, told = life.clock(), []
    while (offer := agent.claim("next")).order == "wait":
        told.append(((life.clock() - began).total_seconds(), offer.wait_seconds))
        life.clock.advance(seconds=offer.wait_seconds)
    assert offer.order == "drain"
    return told


def test_a_machine_asks_more_seldom_the_longer_it_is_idle_but_not_in_its_first_half_minute():
    told = pauses(*idle(2.0, 5.0)[:2])

    assert {pause for after, pause in told if after < 30} == {2.0}
    assert [pause for _, pause in told] == sorted(pause for _, pause in told)
    assert {pause for after, pause in told if after > 80} == {5.0}
    assert len(told) < 90


@pytest.mark.parametrize("poll", [0.25, 1.0])
def test_on_one_server_it_always_asks_as_often(poll: float):
    assert {pause for _, pause in pauses(*idle(poll, poll)[:2])} == {poll}


def test_a_machine_that_rests_is_written_down_once_a_minute():
    life, agent, metadata = idle(2.0, 5.0)

    pauses(life, agent)

    machine = [w.key for writes in metadata.written for w in writes if w.key == keys.machine(agent.machine_id)]
    assert len(machine) <= 300 / 60 + 1  # and the end
