"""Who may report on an execution, until when, and how far its events are stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lamplighter.contract.job import Epoch
from lamplighter.errors import StaleEpoch

SUSPECT_AFTER = timedelta(seconds=60)
"""Without a heartbeat for this long an execution is shown as unreachable; nothing is moved yet."""

FENCE_AFTER = timedelta(minutes=5)
"""Without a heartbeat for this long its machine is ended, and the execution moves on proof of death."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The fence of one execution. It outlives every holder: `n` only rises, `next_seq` only grows."""

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
        )

    def renewed(self, seq: int, *, seconds: int, now: datetime) -> Lease:
        """A heartbeat never shortens the lease; an older one changes nothing."""
        if seq <= self.heartbeat_seq:
            return self
        until = now + timedelta(seconds=seconds)
        return replace(
            self,
            heartbeat_seq=seq,
            last_heartbeat=now,
            expires_at=max(until, self.expires_at) if self.expires_at else until,
        )

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
