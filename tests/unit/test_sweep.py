"""What the sweep concludes from silence and from strange machines, and what it takes care not to conclude."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.clouds.ec2 import Ec2Cloud
from adapters.clouds.memory import MemoryCloud
from lamplighter import keys
from lamplighter.domain.machines import MachineState
from lamplighter.domain.sweeps import AWAY_AFTER, ORPHAN_AFTER, SweepMemory
from lamplighter.errors import Throttled
from lamplighter.ports import CloudMachine, LaunchRequest
from lamplighter.records import new
from lamplighter.usecases.machines import launch_request
from lamplighter.usecases.sweep import sweep
from tests.doubles import START, SteppingClock
from tests.ec2_double import Ec2Double
from tests.life import Life, with_agent


class Moody(MemoryCloud):
    """A cloud that sometimes does not describe itself."""

    silent = False

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        if self.silent:
            raise Throttled("later")
        return super().describe(installation)


def orphans_in(life: Life, count: int = 1) -> None:
    for n in range(count):
        installation = life.world.installation.id
        life.cloud.launch(LaunchRequest(f"t{n}", f"orphan-{n}", installation, "local", "https://x", "join", {}))


def living(life: Life) -> int:
    return sum(not m.ended for m in life.cloud.inventory())


# --- Orphans ----------------------------------------------------------------------------------------------------------


def test_an_orphan_is_ended_only_when_it_was_seen_for_long_enough():
    life = Life()
    orphans_in(life)

    ended = [life.sweep(minutes=1).orphans for _ in range(7)]

    assert ended == [0, 0, 0, 0, 0, 1, 0]
    assert living(life) == 0


def test_the_first_sweep_after_a_restore_ends_nothing_however_old_the_machines_are():
    life = Life()
    orphans_in(life, 3)
    life.clock.advance(days=2)

    life.sweep()

    assert living(life) == 3


def test_a_machine_whose_record_appears_meanwhile_is_no_orphan():
    life = Life()
    orphans_in(life)
    for _ in range(5):
        life.sweep(minutes=1)
    life.submit()
    record = replace(with_agent(life).life.machines()[0], id="orphan-0", cloud_id="")
    life.world.metadata.transact([new(keys.machine("orphan-0"), record)])

    life.sweep(minutes=1)

    assert not life.cloud.inventory()[0].ended


def test_a_cloud_that_does_not_answer_neither_ends_nor_forgives_an_orphan():
    clock = SteppingClock()
    cloud = Moody(clock)
    life = Life(cloud=cloud, clock=clock)
    orphans_in(life)
    life.sweep()
    cloud.silent = True
    quiet = [life.sweep(minutes=2) for _ in range(3)]
    cloud.silent = False

    heard = life.sweep(minutes=1)

    assert [r.orphans for r in quiet] == [0, 0, 0]
    assert all("could not be described" in r.faults[0] for r in quiet)
    assert heard.orphans == 1


def test_a_flood_of_orphans_is_ended_five_at_a_time_at_first():
    life = Life()
    orphans_in(life, 12)
    life.sweep()
    life.sweep(minutes=2, seconds=30)

    ended = [life.sweep(minutes=2, seconds=30).orphans for _ in range(3)]

    assert ended == [5, 5, 2]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 600), st.sampled_from(["ours", "theirs"]), st.none() | st.sets(st.integers(0, 30))),
        max_size=30,
    )
)
def test_marks_are_never_due_before_their_time_nor_beyond_the_share(passes: list[tuple[int, str, set[int] | None]]):
    memory, now = SweepMemory(), START
    unbroken: dict[str, datetime] = {}
    for seconds, cloud, seen in passes:
        now += timedelta(seconds=seconds)
        if seen is None:
            continue
        names = {f"i-{n}" for n in seen}
        unbroken = {n: t for n, t in unbroken.items() if not n.startswith(f"{cloud}/") or n.partition("/")[2] in names}
        for name in names:
            unbroken.setdefault(f"{cloud}/{name}", now)
        memory = memory.marked(cloud, names, now)
        due = memory.due(cloud, described=len(names), now=now)

        assert dict(memory.orphans) == unbroken
        assert len(due) <= max(5, len(names) // 5)
        assert all(now - unbroken[f"{cloud}/{name}"] >= ORPHAN_AFTER for name in due)


def test_marks_are_bounded():
    memory = SweepMemory().marked("ours", [f"i-{n}" for n in range(5000)], START)

    assert len(memory.orphans) == 1000


def test_of_two_bodies_of_one_machine_the_one_that_the_record_names_stays():
    """EC2 got a second instance for one machine, and the record names the younger one."""
    clock = SteppingClock()
    double = Ec2Double(clock, hidden_for=timedelta(seconds=30), replays_refusals=False, without={("*", "*", "spot")})
    cloud = Ec2Cloud({"cpu": "lt-0123456789abcdef0"}, ["subnet-a"], client=lambda: double)
    options = {"instance_types": ["c7g.large"], "purchase": "spot_then_on_demand"}
    life = Life(cloud=cloud, clock=clock, options=options)
    life.submit()
    lost_answer(life, double)
    double.without = set()
    agent = with_agent(life)
    agent.claim()
    assert len(double.living()) == 2

    for n in range(8):
        agent.heartbeat(seq=n + 1)
        life.sweep(minutes=1)

    (left,) = double.living()
    machine = life.machine(agent.machine_id)
    assert left.id == machine.cloud_id == "i-00000000000000002"
    assert machine.state is MachineState.BUSY


def lost_answer(life: Life, double: Ec2Double) -> None:
    """A launch that EC2 carried out, and whose launcher died before it heard of it."""
    sweep(world=life.world)
    life.world.clouds["local"].launch(launch_request(life.machines()[0], world=life.world))
    assert len(double.living()) == 1


def on_ec2() -> tuple[Life, Ec2Double]:
    clock = SteppingClock()
    double = Ec2Double(clock)
    cloud = Ec2Cloud({"cpu": "lt-0123456789abcdef0"}, ["subnet-a"], client=lambda: double)
    return Life(cloud=cloud, clock=clock, options={"instance_types": ["c7g.large"]}), double


def test_an_orphan_that_somebody_stopped_is_ended_too_as_its_disk_is_billed():
    life, double = on_ec2()
    life.submit()
    with_agent(life)
    body = life.world.clouds["local"].launch(
        replace(launch_request(life.machines()[0], world=life.world), machine_id="orphan", launch_token="orphan")
    )
    double.stop(body.cloud_id)

    for _ in range(8):
        life.sweep(minutes=1)

    assert "orphan" not in [i.tags["lamplighter:machine"] for i in double.living()]


def test_the_work_of_a_stopped_machine_moves_on_once_the_machine_is_ended():
    life, double = on_ec2()
    life.submit()
    agent = with_agent(life)
    agent.claim()
    cloud_id = life.machine(agent.machine_id).cloud_id
    double.dies_in = timedelta(minutes=3)
    double.stop(cloud_id)

    life.sweep(minutes=1)
    during = life.machine(agent.machine_id).state
    for _ in range(4):
        life.sweep(minutes=1)

    assert during is MachineState.DRAINING
    assert life.machine(agent.machine_id).state is MachineState.GONE
    assert cloud_id not in [i.id for i in double.living()]


# --- Silence ----------------------------------------------------------------------------------------------------------


def test_after_the_sweep_was_away_silences_are_counted_anew():
    life = Life()
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()
    life.sweep()

    back = life.sweep(hours=3)
    soon = life.sweep(minutes=2)
    late = [life.sweep(minutes=2) for _ in range(2)]

    assert (back.unreachable, back.fenced) == (0, 0)
    assert (soon.unreachable, soon.fenced) == (1, 0)
    assert [r.fenced for r in late] == [0, 1]


@pytest.mark.parametrize(("gap", "listens_anew"), [(AWAY_AFTER, False), (AWAY_AFTER + timedelta(seconds=1), True)])
def test_only_a_long_gap_between_two_sweeps_counts_as_absence(gap: timedelta, listens_anew: bool):
    before = SweepMemory(finished_at=START, resumed_at=START - timedelta(days=1))

    begun = before.begun(START + gap)

    assert (begun.resumed_at == START + gap) is listens_anew


def test_a_quiet_sweep_is_noted_now_and_then_only():
    life = Life()
    life.sweep()
    first = life.world.metadata.get(keys.SWEEP)
    life.sweep(seconds=10)
    second = life.world.metadata.get(keys.SWEEP)
    life.sweep(seconds=30)
    third = life.world.metadata.get(keys.SWEEP)

    assert first
    assert second
    assert third
    assert (first.version, second.version, third.version) == (1, 1, 2)
