"""How many machines to start: arithmetic over facts, without calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lamplighter.domain.machines import Machine, MachineState

LONGEST_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pool:
    """The machines of an environment as one count, changed by every reservation and every end in its own transaction.

    `failures` counts launches in a row that never registered; after each, nothing is launched before `not_before`.
    """

    count: int = 0
    failures: int = 0
    not_before: datetime | None = None
    last_failure: str = ""

    def with_one_more(self) -> Pool:
        """A machine is reserved."""
        return replace(self, count=self.count + 1)

    def without(self, machine: Machine, why: str, now: datetime) -> Pool:
        """A machine is gone. One that never registered makes the pool pause, each time for longer."""
        left = replace(self, count=max(0, self.count - 1))
        if machine.registered_at:
            return left.forgiven()
        pause = min(timedelta(seconds=2.0 ** min(self.failures, 10)), LONGEST_PAUSE)
        return replace(left, failures=self.failures + 1, not_before=now + pause, last_failure=why)

    def forgiven(self) -> Pool:
        """What failed before says nothing of the next launch: one succeeded, or the environment was changed."""
        return replace(self, failures=0, not_before=None, last_failure="")


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of one environment."""

    enabled: bool
    max_machines: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Start `count` machines."""

    count: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Start none; `because` is told to whoever waits, `failing` says that launches are the trouble."""

    because: str
    failing: bool = False


Action = Launch | Hold


def plan(queued: int, machines: Sequence[Machine], policy: Policy, pool: Pool, now: datetime) -> Action:
    """What the environment needs now: a machine for each waiting execution that no idle or booting one will take.

    Re-read before every decision, so that a repeated or late call asks for nothing twice.
    """
    alive = [m for m in machines if m.state is not MachineState.GONE]
    free = sum(m.state in (MachineState.REQUESTED, MachineState.IDLE) for m in alive)
    wanted = max(0, queued - free)
    if wanted == 0:
        return Hold("machines for all that waits are there or booting" if queued else "nothing waits")
    if not policy.enabled:
        return Hold("the environment is disabled")
    if pool.not_before and pool.not_before > now:
        seconds = (pool.not_before - now).total_seconds()
        because = f"{pool.failures} launches in a row failed, last: {pool.last_failure}; next try in {seconds:.0f} s"
        return Hold(because, failing=True)
    room = policy.max_machines - len(alive)
    if room <= 0:
        return Hold(f"all {policy.max_machines} machines of this environment are in use")
    return Launch(min(wanted, room))
