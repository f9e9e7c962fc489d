"""What one server does beside answering: deliver the outbox as soon as something is written, and sweep now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from functions.local.news import News
from lamplighter.errors import LamplighterError
from lamplighter.usecases.deliver_outbox import deliver_outbox
from lamplighter.usecases.sweep import sweep
from lamplighter.world import World

OUTBOX_SECONDS = 1.0
"""How soon what another process has written is delivered; our own writes nudge."""

_log = logging.getLogger(__name__)


class Background:
    """Two threads over one world. `nudge` may be called from any thread, also before `start`."""

    def __init__(self, sweep_seconds: float) -> None:
        self._sweep_seconds = sweep_seconds
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def nudge(self) -> None:
        """Something was written: look at the outbox now."""
        self._nudged.set()

    def start(self, world: World) -> None:
        """Begin."""
        news = News(world)
        for name, loop in (("outbox", lambda: self._deliver(world)), ("sweep", lambda: self._sweep(world, news))):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, seconds: float) -> None:
        """Begin nothing more, and wait that long for what is being done."""
        self._stopping.set()
        self._nudged.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _deliver(self, world: World) -> None:
        while not self._stopping.is_set():
            self._nudged.wait(OUTBOX_SECONDS)
            self._nudged.clear()
            _guarded("the outbox", lambda: deliver_outbox(world=world))

    def _sweep(self, world: World, news: News) -> None:
        while not self._stopping.wait(self._sweep_seconds):
            _guarded("the sweep", lambda: news.tell(sweep(world=world)))


def _guarded(what: str, work: Callable[[], object]) -> None:
    """A fault must not end the thread that everything waits for."""
    try:
        work()
    except LamplighterError as error:
        _log.warning("%s will be tried again: %s", what, error)
    except Exception:
        _log.exception("%s will be tried again", what)
