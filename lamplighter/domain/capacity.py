"""How many machines to start: arithmetic over facts, without calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from lamplighter.domain.machines import Machine, MachineState

LONGEST_PAUSE = timedelta(minutes=5)
"""Without capacity, and after machines that never registered: the pauses double from one second up to this."""

QUOTA_PAUSE = timedelta(minutes=10)
"""After a quota of the account: it is raised by people, or freed by machines that end."""

REFUSED_PAUSE = timedelta(hours=1)
"""After a refusal of what was asked for: only a corrected environment helps, which ends the pause, or corrected rights."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The machines of an environment as one count, changed by every reservation and every end in its own transaction.

    `failures` counts launches in a row that never registered; after each, nothing is launched before `not_before`.
    `last_code` is the code of the cloud's last refusal, if it was one.
    """

    count: int = 0
    failures: int = 0
    not_before: datetime | None = None
    last_failure: str = ""
    last_code: str = ""

    def with_one_more(self) -> Pool:
        """A machine is reserved."""
        return replace(self, count=self.count + 1)

    def without(self, machine: Machine, why: str, now: datetime) -> Pool:
        """A machine is gone. One that never registered makes the pool pause, each time for longer."""
        left = self.with_one_less()
        if machine.registered_at:
            return left.forgiven()
        code = machine.launch_failure
        not_before = now + self._pause_after(code)
        return replace(left, failures=self.failures + 1, not_before=not_before, last_failure=why, last_code=code)

    def with_one_less(self) -> Pool:
        """A machine is gone."""
        return replace(self, count=max(0, self.count - 1))

    def _pause_after(self, code: str) -> timedelta:
        growing = min(timedelta(seconds=2.0 ** min(self.failures, 10)), LONGEST_PAUSE)
        return {"quota_reached": QUOTA_PAUSE, "launch_refused": REFUSED_PAUSE}.get(code, growing)

    def forgiven(self) -> Pool:
        """What failed before says nothing of the next launch: one succeeded, or the environment was changed."""
        return replace(self, failures=0, not_before=None, last_failure="", last_code="")


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of one environment."""

    enabled: bool
    max_machines: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Start `count` machines."""

    count: int


HoldCode = Literal["", "launch_failed", "installation_full", "budget_spent"]


@dataclass(frozen=True, slots=True)
class Hold:
    """Start none; `because` is told to whoever waits, `code` names the trouble where it is not the environment's own limit."""

    because: str
    code: HoldCode = ""


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
        sooner = ", or as soon as the environment is corrected" if pool.last_code == "launch_refused" else ""
        return Hold(because + sooner, "launch_failed")
    room = policy.max_machines - len(alive)
    if room <= 0:
        return Hold(f"all {policy.max_machines} machines of this environment are in use")
    return Launch(min(wanted, room))


def within_cap(action: Launch, max_machines: int, whole: Pool) -> Action:
    """As many of these as the cap of the whole installation leaves room for."""
    room = max_machines - whole.count
    if room <= 0:
        return Hold(f"all {max_machines} machines that this installation may have are in use", "installation_full")
    return Launch(min(action.count, room))
