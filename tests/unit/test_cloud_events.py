"""What a cloud says unasked speeds things up, and is never believed against what it answers when asked."""

from __future__ import annotations

import pytest

from lamplighter import keys
from lamplighter.domain.executions import Status
from lamplighter.domain.machines import MachineState
from lamplighter.errors import Unavailable
from lamplighter.ports import Delete, Put
from lamplighter.usecases.cloud_events import machine_gone, spot_notice
from lamplighter.usecases.machines import know_cloud_id, machine_by_cloud_id
from tests.life import Agent, Life, with_agent


def body_of(agent: Agent) -> str:
    return agent.life.machine(agent.machine_id).cloud_id


def busy_agent(life: Life) -> Agent:
    life.submit()
    agent = with_agent(life)
    agent.claim()
    return agent


def test_a_launched_machine_is_found_by_what_its_cloud_calls_it_until_it_is_gone():
    life = Life()
    agent = busy_agent(life)
    cloud_id = body_of(agent)

    found = machine_by_cloud_id("local", cloud_id, world=life.world)
    life.cloud.lose(agent.machine_id)
    life.sweep(seconds=5)

    assert found
    assert found.value.id == agent.machine_id
    assert machine_by_cloud_id("local", cloud_id, world=life.world) is None
    assert machine_by_cloud_id("local", "stranger", world=life.world) is None


def test_a_launch_whose_answer_was_lost_is_put_right_by_the_sweep():
    life = Life()
    agent = busy_agent(life)
    known = life.world.metadata.get(keys.machine(agent.machine_id))
    row = life.world.metadata.get(keys.cloud_machine("local", body_of(agent)))
    assert known
    assert row
    before = {**known.value, "cloud_id": ""}
    life.world.metadata.transact([Put(known.key, before, known.version), Delete(row.key, row.version)])

    life.sweep(seconds=5)

    found = machine_by_cloud_id("local", row.key.partition.rpartition("#")[2], world=life.world)
    assert found
    assert found.value.id == agent.machine_id


def test_the_first_answer_to_a_launch_stays():
    life = Life()
    agent = busy_agent(life)
    cloud_id = body_of(agent)

    know_cloud_id(agent.machine_id, "another", world=life.world)

    assert body_of(agent) == cloud_id
    assert machine_by_cloud_id("local", "another", world=life.world) is None


def test_the_end_of_a_machine_moves_its_work_at_once():
    life = Life()
    agent = busy_agent(life)
    execution_id, cloud_id = agent.execution_id, body_of(agent)
    life.cloud.lose(agent.machine_id, "spot interruption")

    machine_gone("local", cloud_id, world=life.world)
    machine_gone("local", cloud_id, world=life.world)

    ended = life.machine(agent.machine_id)
    assert ended.state is MachineState.GONE
    assert ended.retired_because == "it vanished: spot interruption"
    assert life.execution(execution_id).status is Status.QUEUED


def test_a_forged_end_moves_nothing():
    life = Life()
    agent = busy_agent(life)

    machine_gone("local", body_of(agent), world=life.world)
    machine_gone("local", "i-0123456789abcdef0", world=life.world)
    machine_gone("elsewhere", body_of(agent), world=life.world)

    assert life.machine(agent.machine_id).state is MachineState.BUSY


def test_an_end_that_cannot_be_confirmed_may_be_told_again():
    class Silent:
        def describe(self, installation: str) -> None:
            raise Unavailable("no answer")

    life = Life()
    agent = busy_agent(life)
    life.world.clouds["local"] = Silent()  # type: ignore[index]

    with pytest.raises(Unavailable):
        machine_gone("local", body_of(agent), world=life.world)

    assert life.machine(agent.machine_id).state is MachineState.BUSY


@pytest.mark.parametrize("kind", ["rebalance", "interruption"])
@pytest.mark.parametrize("registered", [True, False])
def test_a_machine_without_a_job_goes_out_when_its_cloud_gives_notice(kind: str, registered: bool):
    life = Life()
    life.submit()
    life.settle()
    agent = Agent(life, life.machines()[0].id)
    if registered:
        agent.register()

    spot_notice("local", body_of(agent), kind, world=life.world)  # type: ignore[arg-type]

    machine = life.machine(agent.machine_id)
    assert machine.state is MachineState.DRAINING
    assert machine.retired_because == f"its cloud gave notice: {kind}"
    life.settle()
    assert life.machine(agent.machine_id).state is MachineState.GONE


def test_a_busy_machine_keeps_its_job_and_notices_only_grow_graver():
    life = Life()
    agent = busy_agent(life)
    seen = []

    for kind in ("rebalance", "interruption", "rebalance", "interruption"):
        spot_notice("local", body_of(agent), kind, world=life.world)  # type: ignore[arg-type]
        seen.append(life.machine(agent.machine_id).notice)

    machine = life.machine(agent.machine_id)
    assert seen == ["rebalance", "interruption", "interruption", "interruption"]
    assert machine.state is MachineState.BUSY
    assert not machine.may_work


def test_a_machine_with_notice_is_put_out_by_the_sweep_once_its_job_is_over():
    life = Life()
    agent = busy_agent(life)
    spot_notice("local", body_of(agent), "rebalance", world=life.world)
    agent.start()
    agent.finish(exit_code=0)

    life.sweep(seconds=5)

    machine = life.machine(agent.machine_id)
    assert machine.state is MachineState.GONE
    assert machine.retired_because == "its cloud gave notice: rebalance"


def test_a_notice_for_a_stranger_is_no_error():
    life = Life()

    spot_notice("local", "i-0123456789abcdef0", "interruption", world=life.world)
    spot_notice("elsewhere", "", "rebalance", world=life.world)
