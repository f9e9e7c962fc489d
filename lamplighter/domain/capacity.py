"""How many machines to start: arithmetic over facts, without calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lamplighter.domain.machines import Machine, MachineState


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
    """Start none; `because` is told to whoever waits."""

    because: str


Action = Launch | Hold


def plan(queued: int, machines: Sequence[Machine], policy: Policy) -> Action:
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
    room = policy.max_machines - len(alive)
    if room <= 0:
        return Hold(f"all {policy.max_machines} machines of this environment are in use")
    return Launch(min(wanted, room))
