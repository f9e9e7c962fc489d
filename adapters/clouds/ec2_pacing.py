"""How fast EC2 may be called: a token bucket per kind of call, so that we slow down before we are told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Literal

from lamplighter.errors import Throttled

Call = Literal["launch", "describe", "terminate"]

RATES: Mapping[Call, tuple[float, float]] = {"launch": (5, 2), "describe": (50, 10), "terminate": (50, 5)}
"""Calls at once, and calls per second after that. EC2 documents 2 new instances a second once a first thousand is spent, 100 + 20 a
second of unfiltered describing, and gives no figure for CreateFleet, which bears a few calls a second. The buckets belong to a
whole account and region: a process takes no more than its share.
"""

LONGEST_WAIT = 2.0
"""Seconds. A caller that would wait for longer is told so, and its own schedule decides when to come back."""


class Pace:
    """Waits for its turn. `clock` gives rising seconds; safe with many threads, of one process."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at: dict[Call, float] = {}

    def wait(self, call: Call) -> None:
        """Returns when the call may be made. Raises `Throttled` at once if that is more than LONGEST_WAIT away."""
        wait = self._reserve(call)
        if wait > 0:
            self._sleep(wait)

    def _reserve(self, call: Call) -> float:
        """The bucket as one moment: the time at which it would be full again lies at most `burst` calls ahead."""
        burst, per_second = RATES[call]
        with self._lock:
            now = self._clock()
            full_at = max(self._free_at.get(call, now), now) + 1 / per_second
            wait = full_at - now - burst / per_second
            if wait > LONGEST_WAIT:
                raise Throttled(
                    f"our own pace of {per_second:g} {call} calls a second to EC2 is spent: try again later"
                )
            self._free_at[call] = full_at
            return wait
