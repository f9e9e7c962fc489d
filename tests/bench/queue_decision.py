"""Milliseconds from a machine's question to its lease, with 100, 10,000 and 100,000 executions in the queue, in SQLite.

The floor is the transaction alone: as many records, as large, in the same file, on the disk when it returns. Goals: the
decision costs at most 1 ms beyond the floor, and 100,000 waiting cost no more than twice what 100 cost.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from adapters.metadata.sqlite import SqliteMetadata
from lamplighter import keys
from lamplighter.domain.executions import Execution
from lamplighter.domain.leases import Lease
from lamplighter.ports import ABSENT, ANY, Key, Put, Write
from lamplighter.records import new
from lamplighter.usecases.ensure_capacity import ensure_capacity
from lamplighter.usecases.queueing import queue_key
from tests.bench._stage import place, verdict
from tests.life import Agent, Life, with_agent

SIZES = (100, 10_000, 100_000)
LEASES = 40
GOAL_MS = 1.0
GROWTH = 2.0


def rows(life: Life, model: Execution, count: int) -> Iterator[Put]:
    """What `count` submissions leave behind, as far as a lease reads it."""
    for number in range(count):
        execution_id = life.world.new_id()
        waits = replace(model, id=execution_id, counter=number + 2, qtime=model.ctime + timedelta(seconds=number))
        yield new(keys.execution(execution_id), waits)
        yield new(keys.lease(execution_id), Lease(execution_id))
        yield new(queue_key(waits), {"execution_id": execution_id})


def fill(life: Life, model: Execution, count: int) -> None:
    batch: list[Put] = []
    for row in rows(life, model, count):
        batch.append(row)
        if len(batch) == 99:
            life.world.metadata.transact(batch)
            batch = []
    if batch:
        life.world.metadata.transact(batch)


def floor(life: Life, agent: Agent) -> float:
    """One transaction of the size of a lease's: machine, execution, lease, queue entry, log line, audit."""
    metadata = life.world.metadata
    machine, execution, lease = (
        metadata.get(key)
        for key in (
            keys.machine(agent.machine_id),
            keys.execution(agent.execution_id),
            keys.lease(agent.execution_id),
        )
    )
    assert machine
    assert execution
    assert lease
    values = [machine.value, execution.value, lease.value, {"execution_id": agent.execution_id}]
    values += [{"text": "x" * 80}, {"text": "x" * 200}]
    taken = []
    for number in range(LEASES):
        writes: list[Write] = [Put(Key(f"floor#{i}", "row"), value, ANY) for i, value in enumerate(values[:4])]
        writes += [Put(Key(f"floor#{i}", f"{number:09d}"), value, ABSENT) for i, value in enumerate(values[4:])]
        begun = time.perf_counter()
        metadata.transact(writes)
        taken.append(time.perf_counter() - begun)
    return quick(taken)


def quick(taken: list[float]) -> float:
    """The end of the quickest quarter, in ms: a neighbour's load says nothing about us."""
    return statistics.quantiles(taken, n=4)[0] * 1000


def measure(folder: Path, count: int) -> tuple[float, float, float]:
    """In ms: floor, lease, and deciding how many machines to start."""
    metadata = SqliteMetadata(folder / f"{count}.sqlite3")
    life = Life(metadata=metadata, max_machines=1)
    submitted = life.submit()
    agent = with_agent(life)
    agent.claim("claim-first")
    fill(life, submitted, count)
    least = floor(life, agent)
    taken = []
    for number in range(LEASES):
        agent.finish()
        agent.outputs.clear()
        begun = time.perf_counter()
        offer = agent.claim(f"claim-{number}")
        taken.append(time.perf_counter() - begun)
        assert offer.order == "work"
    planned = []
    for _ in range(LEASES):
        begun = time.perf_counter()
        ensure_capacity(life.environment().id, world=life.world)
        planned.append(time.perf_counter() - begun)
    metadata.close()
    return least, quick(taken), quick(planned)


def main() -> None:
    with place() as folder:
        found = {count: measure(folder, count) for count in SIZES}
    print(f"{'queued':>8} {'commit ms (floor)':>18} {'lease ms':>9} {'beyond':>7} {'capacity ms':>12}  goal")
    for count, (least, lease, capacity) in found.items():
        told = f"{GOAL_MS:.0f} {verdict(lease - least <= GOAL_MS)}"
        print(f"{count:8} {least:18.2f} {lease:9.2f} {lease - least:7.2f} {capacity:12.2f}  {told}")
    growth = found[SIZES[-1]][1] / found[SIZES[0]][1]
    print(f"{SIZES[-1]} against {SIZES[0]}: {growth:.2f} times as long  {GROWTH:.0f} {verdict(growth <= GROWTH)}")


if __name__ == "__main__":
    main()
