"""What one sweep remembers for the next: when it was last here, and which machines it found that nobody knows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

AWAY_AFTER = timedelta(minutes=3)
"""A longer gap between two sweeps means that the control plane was away: it may have missed what machines said meanwhile."""

NOTED_EVERY = timedelta(seconds=30)
"""A sweep that found nothing new is written down no more often than this."""

ORPHAN_AFTER = timedelta(minutes=5)
"""Between the first and the last sighting of an orphan before it is ended: time for a slow launch, or a restore, to be seen."""

MOST_ORPHANS = 1000
"""Marks that are kept at once, which bounds the record."""

REAP_SHARE = 0.2
REAP_AT_LEAST = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A live execution to which the walk over all of them has come, in the order of environments and then of executions."""

    environment_id: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class SweepMemory:
    """`finished_at`: when a sweep last had looked at all machines, and noted it. `resumed_at`: since when that happens without a
    long gap.

    `orphans`: when each machine that belongs to no living record was first seen, by "cloud/cloud id", in every sweep since.
    `place`: after which execution the next sweep goes on, None to begin anew.
    """

    finished_at: datetime | None = None
    resumed_at: datetime | None = None
    orphans: Mapping[str, datetime] = field(default_factory=dict)
    place: Place | None = None

    def begun(self, now: datetime) -> SweepMemory:
        """A sweep begins. After a long gap, and the first time ever, it listens anew."""
        if self.finished_at is None or now - self.finished_at > AWAY_AFTER:
            return replace(self, resumed_at=now)
        return self

    def marked(self, cloud: str, orphans: Collection[str], now: datetime) -> SweepMemory:
        """After a whole description of `cloud`, in which these cloud ids were orphans: old marks stay only for them."""
        others = {name: seen for name, seen in self.orphans.items() if name.partition("/")[0] != cloud}
        room = MOST_ORPHANS - len(others)
        names = sorted((f"{cloud}/{i}" for i in orphans), key=lambda n: (self.orphans.get(n, now), n))[:room]
        return replace(self, orphans=others | {name: self.orphans.get(name, now) for name in names})

    def due(self, cloud: str, described: int, now: datetime) -> list[str]:
        """The cloud ids to end now, longest known first: never more than a fifth of what was described, or five."""
        most = max(REAP_AT_LEAST, int(REAP_SHARE * described))
        marks = [(seen, name) for name, seen in self.orphans.items() if name.partition("/")[0] == cloud]
        return [name.partition("/")[2] for seen, name in sorted(marks) if now - seen >= ORPHAN_AFTER][:most]

    def worth_noting(self, before: SweepMemory, now: datetime) -> bool:
        """Something changed since `before`, or the last note is old."""
        old = before.finished_at is None or now - before.finished_at >= NOTED_EVERY
        return old or replace(self, finished_at=before.finished_at) != before
