"""Outputs that are announced and confirmed several at a time: each for itself, in one transaction."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import Any

import pytest

from adapters.stores.memory import MemoryStore
from lamplighter import keys
from lamplighter.contract.report import MOST_OUTPUTS, NewOutput, NewOutputs, OutputsKept, OutputsStored, OutputTargets
from lamplighter.domain.data import Datum
from lamplighter.errors import Invalid, StaleEpoch, TooLarge
from lamplighter.ports import Target
from lamplighter.records import need
from lamplighter.usecases import attempts, store_outputs
from lamplighter.usecases.sessions import machine_of
from tests.doubles import MemoryStores
from tests.life import Agent, Life, with_agent
from tests.recording import Counted


@pytest.fixture
def agent() -> Agent:
    """One whose user code runs."""
    life = Life()
    life.submit()
    made = with_agent(life)
    made.claim()
    made.start()
    return made


def output(agent: Agent, name: str, content: bytes = b"x", **more: Any) -> NewOutput:
    digests = {h: hashlib.new(h, content).hexdigest() for h in ("md5", "sha1", "sha256")}
    return NewOutput(**{"epoch": agent.epoch, "name": name, "size": len(content), **digests, **more})


def announce(agent: Agent, *outputs: NewOutput, **more: Any) -> OutputTargets:
    machine = machine_of(agent.session, world=agent.life.world).value
    message = NewOutputs(more.get("epoch", agent.epoch), outputs)
    return store_outputs.announce_outputs(machine, agent.execution_id, message, world=agent.life.world)


def confirm(agent: Agent, *output_ids: str) -> OutputsKept:
    machine = machine_of(agent.session, world=agent.life.world).value
    message = OutputsStored(agent.epoch, output_ids)
    return store_outputs.outputs_stored(machine, agent.execution_id, message, world=agent.life.world)


def put(agent: Agent, output_id: str, content: bytes = b"x") -> None:
    datum = need(agent.life.world.metadata, Datum, keys.datum(output_id), "it").value
    agent.life.store.put(datum.object_key, io.BytesIO(content), size=len(content))


def listed(agent: Agent) -> list[str]:
    execution = agent.life.execution(agent.execution_id)
    found = [datum.name for datum in attempts.outputs_of(execution, world=agent.life.world)]
    assert execution.n_outputs == len(found)
    return found


def test_several_outputs_are_announced_and_confirmed_together(agent: Agent):
    targets = announce(agent, *(output(agent, f"file-{n}") for n in range(MOST_OUTPUTS))).targets
    for target in targets:
        put(agent, target.output_id)

    kept = confirm(agent, *(target.output_id for target in targets))

    assert kept.faults == {}
    assert sorted(listed(agent)) == sorted(f"file-{n}" for n in range(MOST_OUTPUTS))


def test_a_repeated_announcement_finds_the_first_and_nothing_is_counted_twice(agent: Agent):
    first = announce(agent, output(agent, "a"), output(agent, "b"), output(agent, "a")).targets
    put(agent, first[0].output_id)
    confirm(agent, first[0].output_id, first[0].output_id)
    again = announce(agent, output(agent, "b"), output(agent, "a"), output(agent, "c")).targets
    confirm(agent, first[0].output_id)

    assert first[0].output_id == first[2].output_id == again[1].output_id
    assert first[1].output_id == again[0].output_id
    assert again[1].call is None
    assert len({target.output_id for target in again}) == 3
    assert listed(agent) == ["a"]


def test_one_that_cannot_be_kept_is_refused_alone(agent: Agent):
    good, bad, worse = announce(
        agent, output(agent, "good"), output(agent, "../bad"), output(agent, "x", size=-1)
    ).targets

    assert good.call
    assert (bad.output_id, worse.output_id) == ("", "")
    assert "cannot be the name" in bad.refused
    assert worse.refused


class Narrow(MemoryStore):
    """Takes at most ten bytes in one PUT."""

    def presign_put(self, key: str, *, seconds: int, size: int) -> Target:
        if size > 10:
            raise TooLarge(f"at most 10 bytes, not {size}")
        return super().presign_put(key, seconds=seconds, size=size)


def test_one_that_its_store_does_not_take_is_refused_alone(agent: Agent):
    agent.life.world = replace(agent.life.world, stores=MemoryStores({"default": Narrow()}))

    small, large = announce(agent, output(agent, "small"), output(agent, "large", size=11)).targets

    assert small.call
    assert (large.output_id, large.call, large.code) == ("", None, "too_large")
    assert "at most 10 bytes, not 11" in large.refused
    with pytest.raises(TooLarge, match="at most 10 bytes"):
        agent.announce("large", b"12345678901")


def test_one_whose_bytes_are_missing_holds_up_no_other(agent: Agent):
    there, missing, short = announce(
        agent, *(output(agent, name, b"12") for name in ("there", "missing", "short"))
    ).targets
    put(agent, there.output_id, b"12")
    put(agent, short.output_id, b"1")

    kept = confirm(agent, missing.output_id, there.output_id, short.output_id, "stranger")

    assert set(kept.faults) == {missing.output_id, short.output_id, "stranger"}
    assert listed(agent) == ["there"]


def test_too_many_at_once_are_refused_and_a_spent_epoch_as_ever(agent: Agent):
    with pytest.raises(Invalid):
        announce(agent, *(output(agent, f"file-{n}") for n in range(MOST_OUTPUTS + 1)))
    with pytest.raises(Invalid):
        confirm(agent, *("id" for _ in range(MOST_OUTPUTS + 1)))
    with pytest.raises(StaleEpoch):
        announce(agent, output(agent, "late"), epoch=replace(agent.epoch, n=agent.epoch.n + 1))


def test_an_end_that_says_nothing_new_of_the_outputs_reads_each_of_them_once() -> None:
    metadata = Counted()
    life = Life(metadata=metadata)
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()
    said = {f"f{n}": {"n": n, "valohai.tags": ["t"]} for n in range(3)}
    data = [keys.datum(agent.output(name, name.encode(), about)) for name, about in said.items()]
    metadata.forget()

    agent.finish(output_metadata={**said, "f2": {"n": 7}})

    read = [key for call in metadata.asked for key in call if key in data]
    assert read == [*data, data[2]]
    assert need(metadata, Datum, data[2], "it").value.metadata == {"n": 7, "valohai.tags": ["t"]}
