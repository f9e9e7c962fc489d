"""What people are told about the files of a run: each thing once, and not without end."""

from __future__ import annotations

import threading
from collections.abc import Callable

MAX_COMPLAINTS = 100


class Complaints:
    """Collects lines for people from any thread and says them from one; after the first hundred only how many more."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._known: set[str] = set()
        self._more = 0

    def add(self, text: str) -> None:
        with self._lock:
            if text in self._known:
                return
            if len(self._known) >= MAX_COMPLAINTS:
                self._more += 1
                return
            self._known.add(text)
            self._waiting.append(text)

    def flush(self, *, summary: bool = False) -> None:
        with self._lock:
            lines, self._waiting = self._waiting, []
            if summary and self._more:
                lines.append(f"{self._more} more messages about outputs are left out")
        for line in lines:
            self._say(line)
