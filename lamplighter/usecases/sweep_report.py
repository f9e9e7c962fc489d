"""What a sweep tells its operator, and how it goes on past a single thing's fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lamplighter.errors import LamplighterError, NotYet

T = TypeVar("T")


@dataclass(slots=True)
class SweepReport:
    """What one sweep found and did, for the operator's counters.

    `looked_at` counts live executions; `cut` says that time was up before the last of them: the next sweep goes on there.
    """

    delivered: int = 0
    requeued: int = 0
    unreachable: int = 0
    fenced: int = 0
    lost: int = 0
    orphans: int = 0
    looked_at: int = 0
    cut: bool = False
    braked: bool = False
    faults: tuple[str, ...] = ()

    def attempt(self, step: Callable[[], T]) -> T | None:
        """What `step` gives; or None where it fails with a fault of ours, which is noted so that the rest can go on."""
        try:
            return step()
        except NotYet:
            return None  # accepted, and asked again in the next sweep
        except LamplighterError as error:
            self.faults += (f"{error.code}: {error.told()}"[:500],)
            return None
