"""The clock that leases and limits are counted by: it goes on while a machine is suspended and never jumps."""

from __future__ import annotations

import time
from pathlib import Path


def boottime() -> float:
    """Seconds since the machine booted, suspended time included. Comparable between processes of one boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names this boot: a `boottime` of another boot means nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
