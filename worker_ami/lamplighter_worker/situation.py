"""What everybody in an attempt must know: whether to stop, and whether the lease is still ours."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from lamplighter.contract.expressions import parse
from lamplighter.contract.report import Orders, StopReason
from lamplighter.errors import Invalid, LamplighterError, NotAuthenticated, NotFound, StaleEpoch
from lamplighter_worker.clock import boottime
from lamplighter_worker.heartbeat import Lease
from lamplighter_worker.notices import Notices
from lamplighter_worker.stopping import Halted

TELL_SECONDS = 90.0
"""How long a machine that is being shut down still tries to tell how its run ended."""


class Left(Exception):
    """The machine's end leaves no more time: a later agent may go on."""


class Situation:
    """Written by the threads that hear from the control plane, read by the one that runs the attempt."""

    def __init__(self, lease: Lease, shutdown: threading.Event, notices: Notices, stop: StopReason | None) -> None:
        self.lease = lease
        self.shutdown = shutdown
        self.notices = notices
        self.changed = threading.Event()
        self.refusal: LamplighterError | None = None
        self.log_refusal: LamplighterError | None = None
        self._lock = threading.Lock()
        self._stop = stop
        self._leave_at: float | None = None

    @property
    def stop(self) -> StopReason | None:
        """Why the run is to stop; the first reason counts."""
        return self._stop

    def ask_to_stop(self, reason: StopReason) -> None:
        with self._lock:
            self._stop = self._stop or reason
        self.changed.set()

    def hear(self, orders: Orders) -> None:
        if orders.stop is not None:
            self.ask_to_stop(orders.stop)
        self.notices.hear(orders.notice)

    def refused(self, error: LamplighterError) -> None:
        """A thread was refused for good. When the lease or the session is over, all ends; else only the log is cut off."""
        if isinstance(error, StaleEpoch | NotFound | NotAuthenticated):
            self.refusal = self.refusal or error
        else:
            self.log_refusal = self.log_refusal or error
        self.changed.set()

    def look(self) -> None:
        """Sees the machine's interruption or shutdown and the lease's end. Raises the refusal that ended the lease."""
        if self.refusal is not None:
            raise self.refusal
        if self.notices.interrupted:
            self.ask_to_stop("interruption")
        elif self.shutdown.is_set():
            self.ask_to_stop("shutdown")
        elif boottime() >= self.lease.stop_by:
            self.ask_to_stop("lost_lease")

    def check(self) -> None:
        """For what comes before the run: raises `Halted` when the attempt is to stop, and as `look` does."""
        self.look()
        if self._stop is not None:
            raise Halted

    def must_give_up(self) -> bool:
        """For what comes after the run: the lease is over, or the machine's end does not wait any longer."""
        if self.shutdown.is_set() and self._leave_at is None:
            self._leave_at = boottime() + TELL_SECONDS
        ends = [moment for moment in (self._leave_at, self.notices.over_at) if moment is not None]
        return self.refusal is not None or (bool(ends) and boottime() >= min(ends))

    def check_telling(self) -> None:
        """Raises the refusal that ended the lease, or `Left` when there is no more time."""
        if self.refusal is not None:
            raise self.refusal
        if self.must_give_up():
            raise Left

    def wait(self, seconds: float) -> None:
        """Returns early when something changed."""
        self.changed.wait(seconds)
        self.changed.clear()


class StopCondition:
    """Asks for a stop as soon as the newest metadata fulfil the job's condition."""

    def __init__(self, text: str, situation: Situation) -> None:
        """Raises `Invalid` for a condition that cannot be read."""
        self._holds = parse(text)
        self._situation = situation

    def look_at(self, newest: Mapping[str, Any]) -> None:
        if self._situation.stop is None and self._holds(newest):
            self._situation.ask_to_stop("condition")


def condition_of(text: str | None, situation: Situation) -> StopCondition | Invalid | None:
    """The condition, or why it cannot be read: a job must not run without the limit that its user counts on."""
    try:
        return StopCondition(text, situation) if text else None
    except Invalid as e:
        return e
