"""Says how far the fetching of inputs is and what holds it up: often to the heartbeat, sparingly to the log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lamplighter_worker.clock import boottime

_SAY_SECONDS = 3.0
_MAX_LINES = 20


class Hindrances:
    """Why inputs are being tried again. Written by the threads that fetch, read by the one that tells."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[Hindrance, str] = {}
        self._known: set[tuple[str, str]] = set()
        self._unsaid: list[str] = []

    @contextmanager
    def of(self, name: str) -> Iterator[Hindrance]:
        """What may hold up one file of the input `name`, while it is fetched."""
        hindrance = Hindrance(self, name)
        try:
            yield hindrance
        finally:
            hindrance.over()

    def now(self) -> str:
        """One that lasts, in a few words, or nothing."""
        with self._lock:
            return next(iter(self._now.values()), "")

    def news(self) -> list[str]:
        """Lines for the log, one per input and reason, that were not given yet."""
        with self._lock:
            lines, self._unsaid = self._unsaid, []
        return lines

    def began(self, hindrance: Hindrance, url: str, reason: str) -> None:
        reason = _printable(reason)
        with self._lock:
            self._now[hindrance] = f"{_printable(hindrance.name)}: {reason}, trying again"
            if (hindrance.name, reason) not in self._known and len(self._known) < _MAX_LINES:
                self._known.add((hindrance.name, reason))
                self._unsaid.append(f"Input {_printable(hindrance.name)}: {url}: {reason}, trying again")

    def ended(self, hindrance: Hindrance) -> None:
        with self._lock:
            self._now.pop(hindrance, None)


class Hindrance:
    """That of one file; its methods are what `Transfer.download` calls."""

    def __init__(self, hindrances: Hindrances, name: str) -> None:
        self.name = name
        self._hindrances = hindrances

    def again(self, url: str, reason: str) -> None:
        """The file is tried again."""
        self._hindrances.began(self, url, reason)

    def over(self, *_: int | None) -> None:
        """Bytes arrive."""
        self._hindrances.ended(self)


class ProgressTeller:
    """Tells `phase` everything, and `say` each hindrance once and progress every few seconds, if there is any."""

    def __init__(
        self, total: int, hindrances: Hindrances, phase: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        self._total = total
        self._hindrances = hindrances
        self._phase = phase
        self._say = say
        self._said: int | None = None
        self._said_at = 0.0

    def tell(self, done: int) -> None:
        """`done` files are there."""
        text = f"fetching inputs: {done} of {self._total}"
        for line in self._hindrances.news():
            self._say(line)
        due = self._said is None or done == self._total or boottime() - self._said_at >= _SAY_SECONDS
        if done != self._said and due:
            self._said, self._said_at = done, boottime()
            self._say(text[:1].upper() + text[1:])
        hindrance = self._hindrances.now()
        self._phase(f"{text} ({hindrance})" if hindrance else text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
