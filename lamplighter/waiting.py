"""How long somebody waits who has met others: never as long as they do."""

from __future__ import annotations

import os


def jittered(longest: float) -> float:
    """Between 0 and `longest`, any moment as likely as another, so that those who met do not meet again.

    From the system's own source: nothing to seed, and nothing that processes which were copied from each other share.
    """
    return longest * int.from_bytes(os.urandom(4), "big") / 2**32
