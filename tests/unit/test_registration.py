"""A machine comes in with what its cloud confirms: once for each nonce, and never after it had a job."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from lamplighter.contract.report import Claim, Proof, Register, Registered
from lamplighter.domain.machines import MachineState
from lamplighter.errors import Forbidden, LamplighterError, NotAuthenticated, NotYet, Unavailable
from lamplighter.ports import Json
from lamplighter.usecases import machines
from lamplighter.usecases.lease_job import lease_job
from lamplighter.usecases.registration import new_nonce, register_machine
from lamplighter.usecases.sessions import machine_of
from lamplighter.world import World
from tests.doubles import MemorySecrets, SteppingClock, make_world
from tests.life import Agent, Life, with_agent

HELLO = Register("", "1", "docker", "gpu", 8, 32_000, 90_000)


@dataclass
class Confirming:
    """The `Identity` port: confirms that every machine is `confirmed`, or has a `fault`."""

    confirmed: str = ""
    fault: LamplighterError | None = None
    asked: list[Json] = field(default_factory=list)

    def cloud_id(self, proof: Json) -> str:
        self.asked.append(proof)
        if self.fault:
            raise self.fault
        return self.confirmed


class Booted:
    """A machine that was launched for a waiting execution and has just booted."""

    def __init__(self) -> None:
        self.life = Life()
        self.identity = Confirming()
        self.life.world = replace(self.life.world, identities={"local": self.identity})
        self.execution = self.life.submit()
        self.life.settle()
        machine = self.life.machines()[-1]
        self.machine_id, self.identity.confirmed = machine.id, machine.cloud_id

    def nonce(self) -> str:
        return new_nonce(world=self.life.world).nonce

    def register(self, nonce: str | None = None, cloud: str = "local") -> Registered:
        proof = Proof(cloud, nonce or self.nonce(), {"url": "as signed"})
        return register_machine(proof, HELLO, world=self.life.world)

    def claim(self, registered: Registered) -> Any:
        return lease_job(registered.session, Claim("claim-1"), world=self.life.world)


@pytest.fixture
def booted() -> Booted:
    return Booted()


def test_a_machine_that_its_cloud_confirms_is_told_its_id_and_given_work(booted: Booted) -> None:
    registered = booted.register()

    assert registered.machine_id == booted.machine_id
    machine = booted.life.machine(booted.machine_id)
    assert (machine.state, machine.runtime, machine.memory_mib) == (MachineState.IDLE, "docker", 32_000)
    assert booted.claim(registered).job.execution_id == booted.execution.id


def test_the_waiting_state_machine_goes_on_as_with_a_join_token(booted: Booted) -> None:
    launching = booted.life.machine(booted.machine_id).workflow_token
    booted.register()
    booted.life.settle()

    watching = booted.life.machine(booted.machine_id).workflow_token
    assert launching
    assert watching not in (None, launching)


def test_the_identity_sees_the_whole_proof(booted: Booted) -> None:
    nonce = booted.nonce()

    booted.register(nonce)

    assert booted.identity.asked == [{"cloud": "local", "nonce": nonce, "evidence": {"url": "as signed"}}]


# --- nonces ---------------------------------------------------------------------------------------------------------------


def test_a_nonce_registers_once(booted: Booted) -> None:
    nonce = booted.nonce()
    first = booted.register(nonce)

    with pytest.raises(NotAuthenticated, match="used before"):
        booted.register(nonce)

    assert machine_of(first.session, world=booted.life.world).value.id == booted.machine_id


def test_a_nonce_that_lay_about_while_a_newer_one_was_used_is_spent_too(booted: Booted) -> None:
    older, newer = booted.nonce(), booted.nonce()
    booted.register(newer)

    with pytest.raises(NotAuthenticated, match="used before"):
        booted.register(older)


def test_a_lost_answer_is_answered_to_a_fresh_proof_and_the_older_session_stops_to_count(booted: Booted) -> None:
    lost, kept = booted.register(), booted.register()

    with pytest.raises(NotAuthenticated, match="over"):
        machine_of(lost.session, world=booted.life.world)
    assert booted.claim(kept).order == "work"


def test_a_nonce_lives_five_minutes(booted: Booted) -> None:
    in_time = booted.nonce()
    booted.life.clock.advance(minutes=4, seconds=59)
    booted.register(in_time)
    late = booted.nonce()
    booted.life.clock.advance(minutes=5, seconds=1)

    with pytest.raises(NotAuthenticated, match="too old"):
        booted.register(late)


def test_a_nonce_of_a_clock_that_was_ahead_does_not_live_longer(booted: Booted) -> None:
    now = booted.life.clock()
    booted.life.clock.advance(hours=1)
    ahead = booted.nonce()
    booted.life.clock.set(now)

    with pytest.raises(NotAuthenticated, match="too old"):
        booted.register(ahead)


def _of(installation: str, key: str) -> str:
    secrets = MemorySecrets()
    secrets.put("installation/join-key", key)
    world: World = make_world(secrets=secrets, now=SteppingClock())
    return new_nonce(world=replace(world, installation=replace(world.installation, id=installation))).nonce


@pytest.mark.parametrize(
    "bent",
    [
        lambda nonce: "",
        lambda nonce: nonce.partition(".")[0],
        lambda nonce: f"{int(nonce[:16]) + 1}{nonce[16:]}",
        lambda nonce: nonce[:-1] + ("0" if nonce[-1] != "0" else "1"),
        lambda nonce: nonce.upper(),
        lambda nonce: nonce + "\n",
        lambda nonce: "٣" * 16 + nonce[16:],
        lambda nonce: _of("another-installation", "test"),
        lambda nonce: _of("installation-1", "another key"),
    ],
)
def test_a_nonce_that_is_not_ours_to_the_letter_is_refused_and_nobody_is_asked(bent: Any, booted: Booted) -> None:
    with pytest.raises(NotAuthenticated, match="none of this installation"):
        register_machine(Proof("local", bent(booted.nonce()), {}), HELLO, world=booted.life.world)
    assert booted.identity.asked == []


def test_a_join_token_is_no_nonce_and_a_nonce_no_join_token(booted: Booted) -> None:
    token = machines.join_token(booted.machine_id, world=booted.life.world)
    named = replace(HELLO, machine_id=booted.machine_id)

    with pytest.raises(NotAuthenticated):
        booted.register(token)
    with pytest.raises(NotAuthenticated):
        register_machine(booted.nonce(), named, world=booted.life.world)


# --- machines -------------------------------------------------------------------------------------------------------------


def test_a_machine_whose_launch_is_not_recorded_yet_is_asked_to_come_again(booted: Booted) -> None:
    nonce, known = booted.nonce(), booted.identity.confirmed
    booted.identity.confirmed = "i-unheard-of"
    with pytest.raises(NotYet, match="i-unheard-of"):
        booted.register(nonce)

    booted.identity.confirmed = known
    assert booted.register(nonce).machine_id == booted.machine_id


def test_a_machine_of_another_cloud_is_not_mistaken_for_ours(booted: Booted) -> None:
    booted.life.world = replace(booted.life.world, identities={"elsewhere": Confirming()})

    with pytest.raises(NotYet):
        booted.register(cloud="elsewhere")


def test_a_cloud_without_an_identity_proves_nothing(booted: Booted) -> None:
    with pytest.raises(NotAuthenticated, match="cannot tell machines"):
        booted.register(cloud="ec2")


@pytest.mark.parametrize("fault", [NotAuthenticated("no"), Unavailable("away")])
def test_what_the_cloud_does_not_confirm_changes_nothing(fault: LamplighterError, booted: Booted) -> None:
    before = booted.life.machine(booted.machine_id)
    nonce = booted.nonce()
    booted.identity.fault = fault

    with pytest.raises(type(fault)):
        booted.register(nonce)

    assert booted.life.machine(booted.machine_id) == before
    booted.identity.fault = None
    assert booted.register(nonce).session


def test_a_machine_that_was_given_up_is_told_to_power_off(booted: Booted) -> None:
    machines.retire_idle(world=booted.life.world, because="too late")

    with pytest.raises(Forbidden, match="too late"):
        booted.register()


def test_a_machine_with_a_job_is_never_taken_over(booted: Booted) -> None:
    booted.claim(booted.register())

    with pytest.raises(Forbidden, match="had a job"):
        booted.register()


def test_a_machine_that_has_had_a_job_never_registers_again(booted: Booted) -> None:
    agent = Agent(booted.life, booted.machine_id)
    agent.session = booted.register().session
    agent.claim()
    agent.start()
    agent.finish(exit_code=0)

    with pytest.raises(Forbidden, match="had a job"):
        booted.register()


def test_nor_does_one_with_its_join_token() -> None:
    life = Life()
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()
    agent.finish(exit_code=0)

    with pytest.raises(Forbidden, match="had a job"):
        agent.register()
