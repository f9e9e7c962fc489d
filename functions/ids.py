"""Time and ids of this process: both only ever rise."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

_MICROSECOND = timedelta(microseconds=1)


class RisingClock:
    """The present moment, UTC; no moment is given twice, and a clock that is set back stands still until it has caught up."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            self._last = max(datetime.now(UTC), self._last + _MICROSECOND)
            return self._last


class RisingIds:
    """UUIDv7 whose first 60 time bits (milliseconds and 4,096ths of one) rise with every id."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self._last = max((time.time_ns() << 12) // 1_000_000, self._last + 1)
            milliseconds, fraction = self._last >> 12, self._last & 0xFFF
        number = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
        return str(uuid.UUID(int=number))
