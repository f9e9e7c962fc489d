"""The threads that keep an embedded workflow moving: one looks for what is due, a few do it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Condition, Event, Thread

from adapters.workflow.journal import due_time
from lamplighter.ports import Clock, Key, Record

THREADS = 4
"""Tasks that run at once: a slow one must not hold up the others."""

POLL_SECONDS = 5.0
"""How soon work that another process has put into the journal is found."""

PAUSE_SECONDS = 1.0
"""How long a thread rests after the journal has failed it, before the same row is tried again."""

_log = logging.getLogger(__name__)


class Driver:
    """Runs `advance(row, now)` for every row that `upcoming()` gives in order of time, as soon as it is due.

    Rows that fail are tried again; a row is never given to two threads at once.
    """

    def __init__(
        self, upcoming: Callable[[], Iterable[Record]], advance: Callable[[Record, datetime], object], clock: Clock
    ) -> None:
        self._upcoming = upcoming
        self._advance = advance
        self._clock = clock
        self._changed = Condition()
        self._wakes = 0
        self._busy: set[Key] = set()
        self._stopping = Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="workflow-task")
        self._thread = Thread(target=self._loop, name="workflow-driver", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look again now."""
        with self._changed:
            self._wakes += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Start nothing more, and return when the tasks that were running have ended."""
        self._stopping.set()
        self.wake()
        self._thread.join()
        self._pool.shutdown(wait=True)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                seen = self._wakes
            delay = self._hand_out()
            with self._changed:
                if self._wakes == seen:
                    self._changed.wait(delay)

    def _hand_out(self) -> float:
        """Give due rows to free threads; says after how many seconds to look again if nobody wakes us."""
        try:
            for row in self._upcoming():
                now = self._clock()
                remaining = (due_time(row) - now).total_seconds()
                if remaining > 0:
                    return min(remaining, POLL_SECONDS)
                if not self._submit(row):
                    return POLL_SECONDS
        except Exception:
            _log.exception("the workflow journal could not be read, trying again")
            return PAUSE_SECONDS
        return POLL_SECONDS

    def _submit(self, row: Record) -> bool:
        """Give the row to a thread unless one has it; False if all threads are taken (the next to be free wakes us)."""
        with self._changed:
            if row.key in self._busy:
                return True
            if self._stopping.is_set() or len(self._busy) == THREADS:
                return False
            self._busy.add(row.key)
        self._pool.submit(self._work, row)
        return True

    def _work(self, row: Record) -> None:
        try:
            self._advance(row, self._clock())
        except Exception:
            _log.exception("the workflow %s could not be moved on, trying again", row.value.get("name"))
            self._stopping.wait(PAUSE_SECONDS)
        finally:
            with self._changed:
                self._busy.discard(row.key)
            self.wake()
