"""What holds when a peer errs or a reading lags: each guard of the life of an execution, with the harm that it prevents."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from lamplighter import keys
from lamplighter.contract.report import NewOutput, OutputStored
from lamplighter.domain.machines import MachineState
from lamplighter.errors import Invalid, NotFound, SequenceGap
from lamplighter.ports import ABSENT, ANY, Delete, Put
from lamplighter.usecases import attempts, browse, store_outputs
from lamplighter.usecases.ensure_capacity import ensure_capacity
from lamplighter.usecases.finish_execution import lose_attempt
from lamplighter.usecases.queueing import queue_key
from lamplighter.usecases.sessions import machine_of
from lamplighter.usecases.stop_execution import stop_execution
from tests.doubles import a_member
from tests.life import Life, with_agent


def test_an_end_is_not_told_while_lines_are_missing():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.say("stored")

    agent.seq = 2
    with pytest.raises(SequenceGap) as gap:
        agent.finish(exit_code=0)

    assert gap.value.expected == 1
    assert not life.execution(execution.id).status.terminal


def test_an_output_whose_bytes_never_arrived_is_not_shown():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    machine = machine_of(agent.session, world=life.world).value
    digests = {name: hashlib.new(name, b"x").hexdigest() for name in ("md5", "sha1", "sha256")}
    message = NewOutput(agent.epoch, "model.bin", 1, **digests)
    target = store_outputs.announce_output(machine, execution.id, message, world=life.world)

    with pytest.raises(Invalid, match="no bytes"):
        store_outputs.output_stored(
            machine, execution.id, target.output_id, OutputStored(agent.epoch), world=life.world
        )

    assert attempts.outputs_of(life.execution(execution.id), world=life.world) == []


def test_the_cap_holds_even_when_the_list_of_machines_lags():
    life = Life(max_machines=1)
    life.submit()
    life.settle()
    environment = life.environment()
    [machine] = life.machines()
    life.world.metadata.transact([Delete(keys.live_machine(environment.id, machine.id), ANY)])

    ensure_capacity(environment.id, world=life.world)
    life.settle()

    assert len(life.cloud.inventory()) == 1


def test_another_organisations_execution_looks_like_none():
    life = Life()
    execution = life.submit()
    stranger = a_member("eve", organisation="another organisation")

    for look in (
        lambda: browse.get_execution(stranger, execution.id, world=life.world),
        lambda: browse.get_execution(stranger, f"{life.project.id}:1", world=life.world),
        lambda: browse.read_events(stranger, execution.id, 0, world=life.world),
        lambda: browse.read_metadata(stranger, execution.id, world=life.world),
        lambda: stop_execution(stranger, execution.id, world=life.world),
    ):
        with pytest.raises(NotFound):
            look()

    assert life.execution(execution.id).stop is None


def test_a_held_execution_is_not_given_twice_although_it_stands_in_the_queue():
    life = Life(max_machines=2)
    execution = life.submit()
    first = with_agent(life)
    first.claim("claim-1")
    entry = queue_key(life.execution(execution.id))
    life.world.metadata.transact([Put(entry, {"execution_id": execution.id}, ABSENT)])
    life.sweep(seconds=5)
    second = with_agent(life)

    offer = second.claim("claim-2")

    assert second.machine_id != first.machine_id
    assert offer.order == "wait"
    assert life.lease(execution.id).machine_id == first.machine_id


def test_a_heartbeat_that_was_overtaken_changes_nothing():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.heartbeat(seq=5)
    before = life.lease(execution.id)

    life.clock.advance(seconds=30)
    agent.heartbeat(seq=4)

    assert life.lease(execution.id) == before


def test_the_end_of_a_former_holder_does_not_take_the_work_from_the_present_one():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    former = replace(life.machine(agent.machine_id), id="a former holder")

    writes = lose_attempt(former, "it vanished late", world=life.world)

    assert writes == []
    assert former.state is MachineState.BUSY
    assert life.lease(execution.id).machine_id == agent.machine_id
