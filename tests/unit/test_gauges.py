"""What the alarms look at beside the report of a sweep: promises that wait, promises that were given up, machines."""

from __future__ import annotations

from lamplighter.intents import intend
from lamplighter.usecases.deliver_outbox import MAX_TRIES, deliver_outbox
from lamplighter.usecases.gauges import Gauges, read_gauges
from tests.life import Life


def test_a_quiet_installation_has_nothing_to_show():
    assert read_gauges(world=Life().world) == Gauges(outbox_seconds=0, parked=0, machines=0)


def test_the_oldest_promise_counts_in_whichever_partition_it_lies():
    life = Life()
    for _ in range(40):
        life.world.metadata.transact([intend(life.world, "ensure_capacity", environment_id="x")])
        life.clock.advance(seconds=10)

    assert read_gauges(world=life.world).outbox_seconds == 400


def test_a_promise_that_was_given_up_waits_no_longer_and_is_counted_for_good():
    life = Life()
    life.world.metadata.transact([intend(life.world, "start_machine", machine_id="unknown")])
    for _ in range(MAX_TRIES):
        deliver_outbox(world=life.world)
        life.clock.advance(minutes=10)

    assert read_gauges(world=life.world) == Gauges(outbox_seconds=0, parked=1, machines=0)


def test_machines_count_as_long_as_they_may_cost():
    life = Life()
    life.submit()
    life.settle()

    assert read_gauges(world=life.world).machines == len(life.machines()) == 1
