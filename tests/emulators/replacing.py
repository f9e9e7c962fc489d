"""How the fixes get into the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def replace(place: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(original)` into the place of `place.name`. Fails at once where a release has renamed it."""
    setattr(place, name, make(getattr(place, name)))
