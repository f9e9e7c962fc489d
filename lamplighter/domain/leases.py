"""Who may report on an execution, until when, and how far its events are stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lamplighter.contract.job import Epoch
from lamplighter.errors import StaleEpoch

KEPT_BEATS = 1.5
"""A heartbeat that says nothing new is written down once the last that was is older than so many intervals: every second one
of a healthy agent, and after two and a half intervals at the latest.
"""

KEPT_SHARE = 0.1
"""... or than this share of the lease: one that is short is renewed by every heartbeat."""

SUSPECT_BEATS, SUSPECT_AT_LEAST = 5.0, timedelta(seconds=60)

UNREACHABLE = "Unreachable: "
"""How the detail of such an execution begins."""

FENCE_AFTER = timedelta(minutes=5)
"""Without a heartbeat for this long its machine is ended, and the execution moves on proof of death."""

DEFAULT_LEASE_SECONDS = 900


def suspect_after(heartbeat_seconds: float) -> timedelta:
    """Without a heartbeat on record for this long an execution is shown as unreachable; nothing is moved yet.

    Of a healthy agent every second heartbeat is on record: this is twice as long, and a heartbeat more.
    """
    return max(SUSPECT_AT_LEAST, timedelta(seconds=SUSPECT_BEATS * heartbeat_seconds))


@dataclass(frozen=True, slots=True)
class Lease:
    """The fence of one execution. It outlives every holder: `n` only rises, `next_seq` only grows.

    Heartbeats write this record and read little else, so it is small, and holds what must be answered each time: the
    lease's length in seconds, whether the holder is to stop, and a mark of the phase that was told last.

    `expires_at` is a promise to the holder, who counts by what is left of it as of when he asked: no answer may say more than
    is on record. `last_heartbeat` is the last that was written down.
    """

    execution_id: str
    generation: int = 1
    n: int = 0
    machine_id: str | None = None
    granted_at: datetime | None = None
    expires_at: datetime | None = None
    last_heartbeat: datetime | None = None
    heartbeat_seq: int = -1
    next_seq: int = 0
    last_event_time: int = 0
    job_token_sha256: str = ""
    seconds: int = DEFAULT_LEASE_SECONDS
    stopping: bool = False
    phase_mark: str = ""

    @property
    def epoch(self) -> Epoch:
        """The newest grant."""
        return Epoch(self.generation, self.n)

    @property
    def held(self) -> bool:
        """Somebody may be running it."""
        return self.machine_id is not None

    def granted(self, machine_id: str, *, generation: int, seconds: int, now: datetime) -> Lease:
        """A new holder with a new epoch; everything under the old one is refused from here on."""
        return replace(
            self,
            generation=generation,
            n=self.n + 1,
            machine_id=machine_id,
            granted_at=now,
            expires_at=now + timedelta(seconds=seconds),
            last_heartbeat=now,
            heartbeat_seq=-1,
            seconds=seconds,
            stopping=False,
            phase_mark="",
        )

    def renewed(self, now: datetime, seq: int | None = None) -> Lease:
        """The holder was heard, by a heartbeat numbered `seq` or by another call. It never shortens the lease; a heartbeat that
        is older than the last one changes nothing.
        """
        if seq is not None and seq <= self.heartbeat_seq:
            return self
        until = now + timedelta(seconds=self.seconds)
        return replace(
            self,
            heartbeat_seq=self.heartbeat_seq if seq is None else seq,
            last_heartbeat=now,
            expires_at=max(until, self.expires_at) if self.expires_at else until,
        )

    def seconds_left(self, now: datetime) -> int:
        """How much of the lease is left, rounded down: never more than its length, whatever our clocks say."""
        left = (self.expires_at - now).total_seconds() if self.expires_at else 0.0
        return max(0, min(self.seconds, int(left)))

    def must_be_kept(self, now: datetime, heartbeat_seconds: float) -> bool:
        """Whether a heartbeat that says nothing new is written down all the same."""
        if self.last_heartbeat is None:
            return True
        age = (now - self.last_heartbeat).total_seconds()
        return not 0 <= age < min(KEPT_BEATS * heartbeat_seconds, KEPT_SHARE * self.seconds)

    def released(self) -> Lease:
        """Nobody holds it; the epoch stays spent."""
        return replace(self, machine_id=None, expires_at=None)

    def check(self, machine_id: str, epoch: Epoch) -> None:
        """Raises `StaleEpoch` unless this machine holds the lease under this very epoch."""
        if self.machine_id != machine_id or self.epoch != epoch:
            raise StaleEpoch(
                f"machine {machine_id} no longer holds execution {self.execution_id}: "
                f"it wrote under epoch {epoch}, the newest is {self.epoch}. Stop the container."
            )
