"""A thread that says "still here", hears orders, and knows until when the lease surely holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lamplighter.contract.job import Job
from lamplighter.contract.report import Heartbeat, Orders, Started
from lamplighter.errors import LamplighterError, Throttled, Unavailable
from lamplighter_worker.clock import boot_id, boottime
from lamplighter_worker.files import read_json, write_json
from lamplighter_worker.link import Link, backoff

KILL_SECONDS = 15.0
"""The container is stopped this long before the lease can end at the other side."""

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

    def renewed(self, sent_at: float, lease_seconds: float) -> None:
        """A call sent at `sent_at` was accepted."""
        self.stop_by = max(self.stop_by, sent_at + lease_seconds - KILL_SECONDS)
        with suppress(OSError):  # on a full disk the lease still holds for this agent
            write_json(self._path, {"stop_by": self.stop_by, "seq": self.seq, "boot": boot_id()})


class Pulse:
    """Tells `started` until it is accepted, and then and before beats as often as the control plane wishes."""

    def __init__(
        self,
        link: Link,
        job: Job,
        lease: Lease,
        *,
        interval: float,
        orders: Callable[[Orders], None],
        refused: Callable[[LamplighterError], None],
    ) -> None:
        self._link = link
        self._path = f"executions/{job.execution_id}/"
        self._epoch = job.epoch
        self._lease = lease
        self._interval = interval
        self._orders = orders
        self._refused = refused
        self._started: Started | None = None
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.phase = ""

    def start(self) -> None:
        self._thread.start()

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
            try:
                self._beat()
                attempt, pause = 0, self._interval
            except (Unavailable, Throttled):
                attempt, pause = attempt + 1, backoff(attempt)
            except LamplighterError as e:
                if not self._over.is_set():
                    self._refused(e)
                return
            if self._started is None or attempt:
                self._wake.wait(pause)
            self._wake.clear()

    def _beat(self) -> None:
        if (started := self._started) is not None:
            self._hear(self._link.post(self._path + "started/", started, Orders))
            self._started = None
        self._lease.seq += 1
        sent_at = boottime()
        beat = Heartbeat(self._epoch, self._lease.seq, self.phase[:500])
        orders = self._link.post(self._path + "heartbeat/", beat, Orders)
        self._lease.renewed(sent_at, orders.lease_seconds)
        self._hear(orders)

    def _hear(self, orders: Orders) -> None:
        self._interval = max(0.2, orders.heartbeat_seconds)
        self._orders(orders)
