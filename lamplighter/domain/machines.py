"""A machine: from the wish for one until its cloud confirms that it is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from lamplighter.contract.report import Notice

_NOTICES: tuple[Notice, ...] = ("", "rebalance", "interruption")


class MachineState(StrEnum):
    """States only move forward, except that a machine may turn from idle to busy and back."""

    REQUESTED = "requested"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Machine:
    """A ledger row that is written before the cloud is asked. `id` doubles as its launch token.

    `options`, GPU and price are the environment's at that moment, so that a repeated launch asks for the very same machine.
    `cloud_id` is the cloud's own id, known once it has answered; `launch_failure` the code of the error with which it refused to
    start the machine. A machine with a `notice` is given no new job. `proven_at` is the time in the nonce of the last proof
    that it registered with: no older one counts.
    """

    id: str
    organisation_id: str
    environment_id: str
    environment_slug: str
    cloud: str
    requested_at: datetime
    options: Mapping[str, Any] = field(default_factory=dict)
    gpu_spec: str = ""
    per_hour_price_usd: Decimal = Decimal("0")
    state: MachineState = MachineState.REQUESTED
    cloud_id: str = ""
    launch_failure: str = ""
    notice: Notice = ""
    runtime: str = ""
    runtime_detail: str = ""
    hostname: str = ""
    agent_version: str = ""
    cpus: int = 0
    memory_mib: int = 0
    registered_at: datetime | None = None
    last_seen: datetime | None = None
    idle_since: datetime | None = None
    execution_id: str | None = None
    claim_id: str | None = None
    last_claim_id: str | None = None
    session_sha256: str = ""
    workflow_token: str | None = None
    proven_at: datetime | None = None
    retired_because: str = ""
    gone_at: datetime | None = None

    @property
    def may_work(self) -> bool:
        """It can be given a job, now or after the one it has."""
        return not self.notice and self.state in (MachineState.REQUESTED, MachineState.IDLE, MachineState.BUSY)

    def noticed(self, notice: Notice) -> Machine:
        """Its cloud has given notice. A graver notice replaces a lesser one, never the other way."""
        return replace(self, notice=max(self.notice, notice, key=_NOTICES.index))

    def working(self, execution_id: str, claim_id: str, now: datetime) -> Machine:
        """It has a job."""
        return replace(
            self,
            state=MachineState.BUSY,
            execution_id=execution_id,
            claim_id=claim_id,
            last_seen=now,
            idle_since=None,
        )

    def rested(self, now: datetime) -> Machine:
        """Its job is over. A machine that is being put out stays that way."""
        state = MachineState.IDLE if self.state is MachineState.BUSY else self.state
        return replace(self, state=state, execution_id=None, last_claim_id=self.claim_id, claim_id=None, idle_since=now)

    def retired(self, because: str) -> Machine:
        """No job is ever given to it again. The first reason stays."""
        if self.state in (MachineState.DRAINING, MachineState.GONE):
            return self
        return replace(self, state=MachineState.DRAINING, retired_because=because)

    def gone(self, now: datetime) -> Machine:
        """Its cloud confirmed the end."""
        return replace(self, state=MachineState.GONE, gone_at=self.gone_at or now, session_sha256="")
