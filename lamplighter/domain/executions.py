"""An execution: one run of one step, and the states it may pass through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from lamplighter.contract.report import Notice, Outcome

MAX_INFRASTRUCTURE_LOSSES = 5
"""How often an execution is started again after its machine was lost, before it is given up as crashed."""


class Status(StrEnum):
    """The eight names that every client knows; there will never be a ninth."""

    CREATED = "created"
    QUEUED = "queued"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETE = "complete"
    ERROR = "error"
    CRASHED = "crashed"

    @property
    def terminal(self) -> bool:
        """A terminal status never changes again."""
        return self in TERMINAL


TERMINAL = frozenset({Status.STOPPED, Status.COMPLETE, Status.ERROR, Status.CRASHED})
INCOMPLETE = tuple(s for s in Status if s not in TERMINAL)


@dataclass(frozen=True, slots=True)
class ExecutionInput:
    """An input as requested: aliases are already resolved to `datum://<id>`, so a copy means the same files."""

    name: str
    urls: tuple[str, ...]
    keep_directories: str = "none"
    filename: str | None = None
    on_demand: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Somebody, or a rule, wants the execution to end. Once set it is never taken back."""

    at: datetime
    by: str
    reason: str = "user"


@dataclass(frozen=True, slots=True)
class Ran:
    """What really ran: in which runtime, which image by digest or which interpreter."""

    runtime: str
    image_digest: str = ""
    interpreter: str = ""
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class Execution:
    """A request for one run, merged with its step, and what became of it. Times are UTC; limits are seconds.

    `epoch_n` is the newest attempt. The files that attempts up to `carried_n` have stored are given to the next one as the input
    `_restart`; 0 means none.
    """

    id: str
    organisation_id: str
    project_id: str
    counter: int
    creator_id: str
    creator_name: str
    commit: str
    adhoc: bool
    step: str
    environment_id: str
    environment_slug: str
    image: str
    command: tuple[str, ...]
    script: str
    ctime: datetime
    mtime: datetime
    status: Status = Status.QUEUED
    status_detail: str = ""
    title: str = ""
    step_icon: str | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[ExecutionInput, ...] = ()
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    secret_variables: Mapping[str, str] = field(default_factory=dict)
    runtime_config: Mapping[str, Any] = field(default_factory=dict)
    time_limit: int | None = None
    no_output_timeout: int | None = None
    stop_expression: str | None = None
    upload_store: str | None = None
    autorestart: bool = False
    needs: Mapping[str, Any] = field(default_factory=dict)
    qtime: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: float | None = None
    exit_code: int | None = None
    stop: StopRequest | None = None
    ran: Ran | None = None
    epoch_n: int = 0
    infrastructure_losses: int = 0
    latest_metadata: Mapping[str, Any] = field(default_factory=dict)
    n_outputs: int = 0
    carried_n: int = 0
    deleted: bool = False
    notebook: bool = False

    def leased(self, epoch_n: int, now: datetime) -> Execution:
        """A machine holds it now; user code does not run yet, so it stays queued. Its outputs are those of this attempt."""
        return replace(self, epoch_n=epoch_n, n_outputs=0, mtime=now, status_detail="A machine has taken the job")

    def started(self, ran: Ran, now: datetime) -> Execution:
        """User code runs from now on. A stop that was asked for meanwhile stays in force."""
        status = Status.STOPPING if self.stop else Status.STARTED
        return replace(self, status=status, status_detail="", ran=ran, start_time=self.start_time or now, mtime=now)

    def stop_asked(self, stop: StopRequest, *, leased: bool) -> Execution:
        """The first request counts. Without a machine there is nothing to wait for: it is stopped at once."""
        if self.status.terminal or self.stop:
            return self
        asked = replace(self, stop=stop, mtime=stop.at)
        if leased:
            return replace(asked, status=Status.STOPPING)
        return asked.ended(Status.STOPPED, f"Stopped by {stop.by} before it started", stop.at)

    def ended(self, status: Status, detail: str, now: datetime, *, exit_code: int | None = None) -> Execution:
        """The one end. Duration counts from the start of user code, or is None when there was none."""
        duration = (now - self.start_time).total_seconds() if self.start_time else None
        return replace(
            self, status=status, status_detail=detail, end_time=now, mtime=now, duration=duration, exit_code=exit_code
        )

    def requeued(self, why: str, now: datetime) -> Execution:
        """Its machine was lost, and it waits again. The loss is not held against the user's retries.

        With `autorestart` the next attempt goes on from what the earlier ones have stored; else it begins from the beginning.
        """
        again = replace(
            self,
            status=Status.QUEUED,
            status_detail=why,
            infrastructure_losses=self.infrastructure_losses + 1,
            start_time=None,
            ran=None,
            qtime=now,
            mtime=now,
        )
        if self.autorestart:
            return replace(again, carried_n=self.epoch_n)
        return replace(again, latest_metadata={}, n_outputs=0)


def after_finish(
    execution: Execution, outcome: Outcome, reason: str, exit_code: int | None, now: datetime, *, notice: Notice = ""
) -> Execution:
    """What an agent's report makes of the execution: an end, or another turn in the queue. `notice` is the machine's."""
    if outcome == "interrupted" and notice == "interruption":
        return _after_interruption(execution, reason, now)
    if outcome in ("lost", "interrupted"):
        return after_loss(execution, reason or "the machine was taken away", now)
    if outcome == "stopped":
        who = f"Stopped by {execution.stop.by}" if execution.stop else "Stopped"
        return execution.ended(Status.STOPPED, reason or who, now, exit_code=exit_code)
    status = Status.COMPLETE if outcome == "complete" else Status.ERROR
    return execution.ended(status, reason, now, exit_code=exit_code)


def after_loss(execution: Execution, reason: str, now: datetime) -> Execution:
    """What the loss of its machine makes of the execution."""
    if execution.stop:
        return execution.ended(Status.STOPPED, f"Stopped by {execution.stop.by}; {reason}", now)
    if execution.infrastructure_losses >= MAX_INFRASTRUCTURE_LOSSES:
        times = execution.infrastructure_losses + 1
        return execution.ended(
            Status.CRASHED, f"Given up: its machine was lost {times} times, last because {reason}", now
        )
    return execution.requeued(f"Waiting again: {reason}", now)


def _after_interruption(execution: Execution, reason: str, now: datetime) -> Execution:
    """The cloud took the machine back, and said so in time for user code to write down what it had.

    Users know this from `autorestart`: with it, the execution waits again; without it, it ends here, with what it saved as its
    outputs. It ends as crashed, "the platform failed": nobody stopped it, and its code did nothing wrong. Where user code had not
    begun there is nothing to keep and nothing that may not be done twice, so it waits again in any case.
    """
    if execution.stop or execution.autorestart or not execution.ran:
        return after_loss(execution, reason, now)
    advice = "What it had stored by then is kept. With autorestart it would be queued again"
    return execution.ended(Status.CRASHED, f"{reason[:1].upper()}{reason[1:]}. {advice}", now)
