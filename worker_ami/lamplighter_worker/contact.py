"""Leaves a moment in a file for the machine's own dead man's timer: of the last word from the control plane, or, while there is
none, of the last attempt to tell it of a run that it has not yet heard the end of.
"""

from __future__ import annotations

import os
from pathlib import Path

_WIDTH = 20


class ContactFile:
    """One number of fixed width, in whole seconds since boot: a reader never finds half of it. Without a path, nothing."""

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = None if path is None else os.open(path, flags, 0o644)

    def note(self, moment: float) -> None:
        """May be called by any thread."""
        if self._descriptor is not None:
            os.pwrite(self._descriptor, f"{int(moment):>{_WIDTH}}\n".encode(), 0)
