"""Whatever waits in the emulated Step Functions waits here: by the machine's clock, or by one that only a test moves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Condition

PASS_TIME = "AWSStepFunctions.PassTime"
"""A call that only our emulator knows: moves held time by `seconds` in steps of `step`, each ended when all
executions wait or have ended, and then answers."""


@dataclass(eq=False)
class Wait:
    """Something that an execution waits for: until it is settled, or until the moment `ends`.

    `busy` says that a function is being called on its behalf: then the world is not quiet.
    """

    ends: float
    busy: bool = False
    outcome: object = None


ELAPSED = object()
"""The outcome of a wait that nobody settled in time."""


class Timeline:
    """The time of all executions. Held time stands still until `advance` moves it."""

    def __init__(self, *, held: bool) -> None:
        self._held = held
        self._moment = 0.0
        self._live: set[str] = set()
        self._parked: dict[str, Wait] = {}
        self.changed = Condition()
        """The lock of everything here; reentrant, so that a caller can make an execution known as it begins."""

    def now(self) -> float:
        """The present moment in seconds; only differences mean anything."""
        return self._moment if self._held else time.monotonic()

    def enter(self, execution: str) -> None:
        """From now on the world is quiet only while this execution waits."""
        with self.changed:
            self._live.add(execution)

    def leave(self, execution: str) -> None:
        """The execution has ended."""
        with self.changed:
            self._live.discard(execution)
            self.changed.notify_all()

    def park(self, execution: str, wait: Wait) -> object:
        """Hold the calling thread until the wait is settled or over; says how it ended."""
        with self.changed:
            self._parked[execution] = wait
            self.changed.notify_all()
            while wait.outcome is None and self.now() < wait.ends:
                self.changed.wait(None if self._held else wait.ends - self.now())
            del self._parked[execution]
            wait.outcome = wait.outcome or ELAPSED
            return wait.outcome

    def settle(self, wait: Wait | None, outcome: object) -> bool:
        """End the wait; False if it had ended before, which then stays as it was."""
        with self.changed:
            if wait is None or wait.outcome is not None or self.now() >= wait.ends:
                return False
            wait.outcome = outcome
            self.changed.notify_all()
            return True

    def settle_execution(self, execution: str, outcome: object) -> None:
        """End whatever this execution waits for."""
        with self.changed:
            self.settle(self._parked.get(execution), outcome)

    def rest(self, wait: Wait) -> None:
        """The function that was called for this wait has answered."""
        with self.changed:
            wait.busy = False
            self.changed.notify_all()

    def advance(self, seconds: int, *, step: int, patience: float) -> bool:
        """Move held time step by step, waiting each time until the world is quiet.

        False as soon as it is not quiet after `patience` real seconds. Without seconds it only waits.
        """
        with self.changed:
            quiet = self.changed.wait_for(self._quiet, patience)
            for _ in range(0, seconds, step):
                self._moment += step
                self.changed.notify_all()
                quiet = quiet and self.changed.wait_for(self._quiet, patience)
            return quiet

    def _quiet(self) -> bool:
        return all(self._resting(self._parked.get(execution)) for execution in self._live)

    def _resting(self, wait: Wait | None) -> bool:
        return wait is not None and not wait.busy and wait.outcome is None and self.now() < wait.ends
