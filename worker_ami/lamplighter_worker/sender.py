"""A thread that posts the spool's events in batches until the control plane has stored each."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from lamplighter.contract.job import Epoch
from lamplighter.contract.report import EventsStored, Orders
from lamplighter.contract.wire import encode
from lamplighter.errors import Invalid, LamplighterError, SequenceGap, Throttled, Unavailable
from lamplighter_worker.clock import boottime
from lamplighter_worker.link import Link, backoff
from lamplighter_worker.spool import Batch, Spool

MOST_LINES = 5000
MOST_BYTES = 512 * 1024
WATCHED_GAP, LONGEST_GAP = 1.0, 300.0
"""Seconds. A machine that vanishes without notice takes at most the last gap's lines with it; each batch costs money."""
GROWTH = 4
"""By which gaps grow while nobody watches: most of a run's batches would else be those of its first minutes."""

_TICK = 0.1


class Sender:
    """Small gaps between batches while somebody watches, growing ones else: each batch costs money at the other end."""

    def __init__(
        self,
        link: Link,
        execution_id: str,
        epoch: Epoch,
        spool: Spool,
        *,
        heard: Callable[[float, Orders], None],
        refused: Callable[[LamplighterError], None],
    ) -> None:
        """`heard` is told of each answer when its call was sent, and its orders; `refused` once when the control plane will take
        no more, which ends the thread.
        """
        self._link = link
        self._path = f"executions/{execution_id}/events/"
        self._epoch = json.dumps(encode(epoch)).encode()
        self._spool = spool
        self._heard = heard
        self._refused = refused
        self._hurry = threading.Event()
        self._over = threading.Event()
        self._watched = False
        self._resend: int | None = None
        self._gap = WATCHED_GAP
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watched(self, watched: bool) -> None:
        """Somebody looks at the log, or does no longer."""
        if watched and not self._watched:
            self._gap = WATCHED_GAP
        self._watched = watched

    def hurry(self) -> None:
        """No more waiting for batches to grow: the run has ended."""
        self._hurry.set()

    def again(self, expected: int) -> None:
        """The events from `expected` on are missing at the other end after all."""
        self._resend = expected
        self._spool.forget_acknowledged(expected)

    def drained(self) -> bool:
        """Every event of the spool is stored at the other end."""
        return self._spool.acknowledged >= self._spool.next_seq

    def close(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        last = 0.0
        try:
            while not self._over.is_set():
                if self._resend is not None:
                    expected, self._resend = self._resend, None
                    self._go_on_from(expected)
                full = self._spool.pending >= MOST_LINES
                if self._spool.pending and (full or self._hurry.is_set() or boottime() - last >= self._gap):
                    last = boottime()
                    self._post_some()
                else:
                    self._spool.wait(_TICK) if not self._spool.pending else self._over.wait(_TICK)
        except LamplighterError as e:
            if not self._over.is_set():
                self._refused(e)
        except OSError as e:
            self._refused(Unavailable(f"The spool cannot be read any more: {e}"))

    def _post_some(self) -> None:
        batch = self._spool.take(MOST_LINES, MOST_BYTES)
        if batch is None:
            return
        attempt = 0
        while not self._over.is_set():
            sent_at = boottime()
            try:
                stored = self._link.post(self._path, self._body(batch), EventsStored)
            except SequenceGap as gap:
                self._go_on_from(gap.expected)
                return
            except (Unavailable, Throttled):
                self._over.wait(backoff(attempt))
                attempt += 1
                continue
            self._stored(batch, stored)
            self._heard(sent_at, stored.orders)
            return
        self._spool.seek(batch.first_seq)

    def _body(self, batch: Batch) -> bytes:
        head = b'{"epoch":%s,"first_seq":%d,"lines":[' % (self._epoch, batch.first_seq)
        return b"".join((head, batch.lines, b'],"metadata":[', batch.metadata, b"]}"))

    def _stored(self, batch: Batch, stored: EventsStored) -> None:
        self._gap = WATCHED_GAP if self._watched else min(LONGEST_GAP, self._gap * GROWTH)
        if stored.next_seq != batch.first_seq + batch.count:
            self._go_on_from(stored.next_seq)
        else:
            self._spool.acknowledge(stored.next_seq)

    def _go_on_from(self, expected: int) -> None:
        """What lies before `expected` is stored: an answer was lost, or an earlier agent sent it."""
        try:
            self._spool.seek(expected)
        except SequenceGap as e:
            raise Invalid.because(
                f"The control plane expects event {expected}, which this machine does not have."
            ) from e
        self._spool.acknowledge(expected)
