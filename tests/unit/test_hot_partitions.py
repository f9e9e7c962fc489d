"""No partition takes more than DynamoDB gives it, even when ten thousand workers of one project are busy with short jobs.

The life of executions is played on the double, its write units are counted per partition, and scaled. The table of
docs/key-design.md comes from here: `python -m tests.unit.test_hot_partitions`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from adapters.metadata.memory import MemoryMetadata
from lamplighter.ports import Check, Key, Page, Put, Record, Write
from lamplighter.usecases.check_order import SubmitExecution
from lamplighter.usecases.submit_execution import submit_execution
from tests.life import Agent, Life, with_agent

PARTITION_UNITS = 1000
"""DynamoDB's limit of write units per second in one partition key, whatever the table's mode
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html).
"""

WORKERS = 10_000
JOB_SECONDS = 60
HEARTBEAT_SECONDS = 30
JOBS_PER_SECOND = WORKERS / JOB_SECONDS

PLAYED = 64
"""Executions that are played: what is spread over shards must be seen to spread."""

ATTRIBUTE_BYTES = 24
"""The names of an item's four attributes and its version, beside its key and its value."""

EMBEDDED_ONLY = "workflow"
"""Partitions of the embedded runner begin so: it keeps nothing in DynamoDB."""

OF_ONE_WORKER = re.compile(r"(execution#<id>(#.*)?|machine#<id>|join#<id>|datum#<id>)")
"""Only one worker's jobs write to such a partition; all others are everybody's."""

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{64}")


class CountingMetadata:
    """`Metadata` that adds up the write units of every transaction, per item, while `counting`."""

    def __init__(self, inner: MemoryMetadata) -> None:
        self._inner = inner
        self.counting = False
        self.units: Counter[Key] = Counter()

    def get(self, key: Key) -> Record | None:
        return self._inner.get(key)

    def get_many(self, wanted: Sequence[Key]) -> dict[Key, Record]:
        return self._inner.get_many(wanted)

    def query(self, partition: str, **how: Any) -> Page:
        return self._inner.query(partition, **how)

    def transact(self, writes: Sequence[Write]) -> None:
        before = self._inner.get_many([write.key for write in writes])
        self._inner.transact(writes)
        if self.counting:
            alone = len(writes) == 1 and not isinstance(writes[0], Check)
            for write in writes:
                self.units[write.key] += units(write, before.get(write.key)) * (1 if alone else 2)


def units(write: Write, before: Record | None) -> int:
    """One for each started KB of the larger of the item before and after; a condition check counts like a write
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html).
    """
    sizes = [size(write.key, before.value)] if before else [0]
    if isinstance(write, Put):
        sizes.append(size(write.key, write.value))
    return max(1, -(-max(sizes) // 1024))


def size(key: Key, value: object) -> int:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len((text + key.partition + key.sort).encode()) + ATTRIBUTE_BYTES


def play() -> dict[str, float]:
    """Write units per execution in each kind of partition; where there are several of a kind, in the one with the most.

    Every execution is submitted with an idempotency key, reads one datum, is heard of twice a minute, says a line, writes one
    output, and is done by a machine that goes from job to job.
    """
    metadata = CountingMetadata(MemoryMetadata())
    life = Life(metadata, max_machines=1)
    agent, datum = None, ""
    for number in range(PLAYED + 1):
        # The first one lights the machine, and makes the datum that all others read.
        metadata.counting = number > 0
        submit(life, number, datum)
        life.settle()
        agent = agent or with_agent(life)
        datum = work(agent, number, datum)
        life.settle()
    return by_kind(metadata.units)


def submit(life: Life, number: int, datum: str) -> None:
    inputs = {"images": [f"datum://{datum}"] if datum else []}
    order = SubmitExecution(life.project.id, life.commit.identifier, "train", inputs=inputs)
    submit_execution(life.principal, order, idempotency_key=f"order-{number}", world=life.world)


def work(agent: Agent, number: int, datum: str) -> str:
    """One job from its lease to its end; gives the datum that all read."""
    agent.claim(f"claim-{number}")
    agent.start()
    for beat in range(JOB_SECONDS // HEARTBEAT_SECONDS):
        agent.life.clock.advance(seconds=HEARTBEAT_SECONDS)
        agent.heartbeat(1 + beat)
    agent.say("one line")
    agent.outputs.clear()
    written = agent.output("model.bin", f"weights {number}".encode())
    agent.finish(exit_code=0)
    return datum or written


def by_kind(taken: Counter[Key]) -> dict[str, float]:
    partitions: Counter[str] = Counter()
    for key, written in taken.items():
        if not key.partition.startswith(EMBEDDED_ONLY):
            partitions[key.partition] += written
    kinds: dict[str, float] = {}
    for partition, written in partitions.items():
        kind = re.sub(r"^(outbox|audit#<id>)#\d\d$", r"\1#<shard>", ID.sub("<id>", partition))
        # Each execution has its own; the machine, and what is everybody's, is written to by all that were played.
        each = written / (1 if re.match("execution#|datum#<id>$", kind) else PLAYED)
        kinds[kind] = max(kinds.get(kind, 0.0), each)
    return kinds


def rate(kind: str, each: float) -> float:
    """Units per second in one such partition."""
    return each / JOB_SECONDS if OF_ONE_WORKER.fullmatch(kind) else each * JOBS_PER_SECOND


@pytest.fixture(scope="module")
def played() -> dict[str, float]:
    return play()


def test_no_partition_takes_more_than_dynamodb_gives_it(played: dict[str, float]) -> None:
    too_hot = {kind: rate(kind, each) for kind, each in played.items() if rate(kind, each) > PARTITION_UNITS}

    assert not too_hot


def test_the_life_that_is_played_writes_to_every_kind_of_partition_that_a_run_writes_to(
    played: dict[str, float],
) -> None:
    assert {
        "audit#<id>#<shard>",
        "datum#<id>#used-by",
        "environment#<id>#live",
        "environment#<id>#queue",
        "execution#<id>",
        "idempotency#<id>",
        "machine#<id>",
        "outbox#<shard>",
        "project#<id>",
        "project#<id>#data",
        "project#<id>#executions",
        "project#<id>#live",
    } <= played.keys()


def test_write_units_are_those_that_dynamodb_charges() -> None:
    metadata = CountingMetadata(MemoryMetadata())
    metadata.counting = True
    large, small, alone = Key("p", "large"), Key("p", "small"), Key("p", "alone")

    metadata.transact([Put(large, {"v": "x" * 1500}, 0), Put(small, {}, 0)])
    metadata.transact([Put(alone, {}, 0)])
    metadata.transact([Check(large, 1)])

    assert metadata.units == {large: 4 + 4, small: 2, alone: 1}


def table(played: dict[str, float]) -> str:
    """The table of docs/key-design.md."""
    lines = ["| Partition | Write units per execution | Units per second in one |", "|---|---:|---:|"]
    for kind, each in sorted(played.items(), key=lambda pair: (-rate(*pair), pair[0])):
        lines.append(f"| `{kind}` | {each:.1f} | {rate(kind, each):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(play()))
