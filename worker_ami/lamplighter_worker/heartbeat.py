"""A thread that says "still here", hears orders, and knows until when the lease surely holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lamplighter.contract.job import Job
from lamplighter.contract.report import Heartbeat, Notice, Orders, Started
from lamplighter.errors import LamplighterError, Throttled, Unavailable
from lamplighter_worker.clock import boot_id, boottime
from lamplighter_worker.files import read_json, write_json
from lamplighter_worker.link import Link, backoff
from lamplighter_worker.notices import Notices

KILL_SECONDS = 15.0
"""The container is stopped this long before the lease can end at the other side."""

PATIENCE = 3600.0
"""How long a store that is away is asked to take outputs, and how long after its lease an attempt keeps its machine from
powering off while the control plane is away."""

_SEQ_JUMP = 1000


class Lease:
    """Counts from the instant before the accepted call was sent: the other side counted later, so it never ends earlier."""

    def __init__(self, path: Path) -> None:
        """Reads what an earlier agent wrote; a lease of another boot is over."""
        known = read_json(path) or {}
        self.boot = str(known.get("boot", ""))
        same_boot = self.boot == boot_id()
        self._path = path
        self.stop_by = float(known.get("stop_by", 0.0)) if same_boot else 0.0
        self.seq = int(known.get("seq", 0)) + _SEQ_JUMP if known else 0
        self._lock = threading.Lock()

    def renewed(self, sent_at: float, lease_seconds: float) -> None:
        """A call sent at `sent_at` was accepted."""
        with self._lock, suppress(OSError):  # on a full disk the lease still holds for this agent
            self.stop_by = max(self.stop_by, sent_at + lease_seconds - KILL_SECONDS)
            write_json(self._path, {"stop_by": self.stop_by, "seq": self.seq, "boot": boot_id()})


class Pulse:
    """Tells `started` until it is accepted, and then and before beats as often as the control plane wishes, or less often while
    other calls say as much.
    """

    def __init__(
        self,
        link: Link,
        job: Job,
        lease: Lease,
        notices: Notices,
        *,
        interval: float,
        orders: Callable[[Orders], None],
        refused: Callable[[LamplighterError], None],
        stay: Callable[[float], None] = lambda _moment: None,
    ) -> None:
        """`stay` is told the moment (`boottime`) of each beat that was not heard, until PATIENCE after the lease's end: the machine
        is still needed, for there are outputs or an end to be told.
        """
        self._link = link
        self._path = f"executions/{job.execution_id}/"
        self._epoch = job.epoch
        self._lease = lease
        self._notices = notices
        self._interval = interval
        self._orders = orders
        self._refused = refused
        self._stay = stay
        self._started: Started | None = None
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._phase = ""
        self._told: tuple[str, Notice] | None = None
        self._beaten_at = self._heard_at = 0.0
        self._not_before = 0.0

    def start(self) -> None:
        self._thread.start()

    @property
    def phase(self) -> str:
        """What the run is at, for people; the next beat tells it."""
        return self._phase

    @phase.setter
    def phase(self, phase: str) -> None:
        self._phase = phase
        self._wake.set()

    def heard(self, sent_at: float, orders: Orders) -> None:
        """Another call under this lease was answered, which renews it as a beat does: the next beat has time."""
        self._lease.renewed(sent_at, orders.lease_seconds)
        self._heard_at = boottime()
        self._hear(orders)

    def started(self, started: Started) -> None:
        """User code runs: the control plane is told as soon as it listens."""
        self._started = started
        self._wake.set()

    def told_started(self) -> bool:
        return self._started is None

    def close(self) -> None:
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        attempt = 0
        while not self._over.is_set():
            if (pause := self._due() - boottime()) > 0:
                self._wake.wait(pause)
                self._wake.clear()
                continue
            try:
                self._beat()
                attempt, self._not_before = 0, 0.0
            except (Unavailable, Throttled):
                attempt, self._not_before = attempt + 1, boottime() + backoff(attempt)
                if (now := boottime()) < self._lease.stop_by + PATIENCE:
                    self._stay(now)
            except LamplighterError as e:
                if not self._over.is_set():
                    self._refused(e)
                return

    def _due(self) -> float:
        """When to speak next: at once of the start, soon of what is new, and else when nothing was heard for an interval."""
        if self._not_before or self._started is not None:
            return self._not_before
        if self._told != (self._phase, self._notices.notice):
            return self._beaten_at + self._interval if self._beaten_at else 0.0
        return max(self._beaten_at, self._heard_at) + self._interval

    def _beat(self) -> None:
        if (started := self._started) is not None:
            self._hear(self._link.post(self._path + "started/", started, Orders))
            self._started = None
        self._lease.seq += 1
        told, sent_at = (self._phase, self._notices.notice), boottime()
        beat = Heartbeat(self._epoch, self._lease.seq, told[0][:500], told[1])
        orders = self._link.post(self._path + "heartbeat/", beat, Orders)
        self._lease.renewed(sent_at, orders.lease_seconds)
        self._told, self._beaten_at = told, boottime()
        self._hear(orders)

    def _hear(self, orders: Orders) -> None:
        self._interval = max(0.2, orders.heartbeat_seconds)
        self._orders(orders)
