"""A session names its machine, and proves it by all of its text: what is nearly right is nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lamplighter import keys
from lamplighter.errors import NotAuthenticated
from lamplighter.ports import Key
from lamplighter.usecases.sessions import machine_of
from tests.life import Life, with_agent
from tests.recording import Counted


def two_sessions() -> tuple[Life, str, str]:
    """The sessions of two machines that wait for work."""
    life = Life()
    life.submit()
    first = with_agent(life)
    first.claim()
    life.submit()
    second = with_agent(life)
    assert first.machine_id != second.machine_id
    return life, first.session, second.session


def named(session: str) -> str:
    return session.removeprefix("mls_").partition(".")[0]


def test_a_session_is_proven_by_the_record_of_its_machine_alone():
    metadata = Counted()
    life = Life(metadata)
    life.submit()
    agent = with_agent(life)
    metadata.forget()

    assert machine_of(agent.session, world=life.world).value.id == agent.machine_id
    assert metadata.asked == [[keys.machine(agent.machine_id)]]


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda own, other: own.replace(named(own), named(other)),
        lambda own, other: other.replace(named(other), named(own)),
        lambda own, _: own[:-1] + ("A" if own[-1] != "A" else "B"),
        lambda own, _: own.upper(),
        lambda own, _: own + "A",
        lambda own, _: own + "\n",
        lambda own, _: own.removeprefix("mls_"),
        lambda own, _: f"mls_{named(own)}.",
        lambda own, _: f"mls_{named(own)}",
        lambda own, _: own.replace(named(own), "0" * 36),
        lambda own, _: own.replace(named(own), named(own).replace("-", "#")),
        lambda own, _: "",
    ],
    ids=[
        *("name of another", "secret of another", "last character", "upper case", "longer", "line end", "no prefix"),
        *("no secret", "name alone", "unknown machine", "no name at all", "empty"),
    ],
)
def test_what_is_nearly_a_session_is_none(spoilt: Callable[[str, str], str]):
    life, own, other = two_sessions()

    with pytest.raises(NotAuthenticated, match="over"):
        machine_of(spoilt(own, other), world=life.world)

    assert named(machine_of(own, world=life.world).value.id) == named(own)


def test_a_text_that_names_no_machine_is_not_even_looked_up():
    metadata = Counted()
    life = Life(metadata)
    metadata.forget()

    with pytest.raises(NotAuthenticated):
        machine_of("mls_" + "x" * 400, world=life.world)

    assert metadata.asked == []


def test_a_session_ends_with_its_machine():
    life, own, _ = two_sessions()
    machine_id = named(own)

    life.cloud.terminate(machine_id)
    life.sweep(minutes=20)

    with pytest.raises(NotAuthenticated, match="over"):
        machine_of(own, world=life.world)


def test_a_session_is_never_kept_in_clear():
    life, own, _ = two_sessions()
    stored = life.world.metadata.get(Key(f"machine#{named(own)}", "machine"))

    assert stored
    assert own not in repr(stored.value)
    assert own.partition(".")[2] not in repr(stored.value)
