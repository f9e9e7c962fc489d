"""A cloud in memory that keeps the promises of the port and none beyond: on demand machines hide, vanish or are deaf."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from lamplighter.errors import LaunchRefused, NoCapacity, NotYet
from lamplighter.ports import Clock, CloudMachine, LaunchRequest


@dataclass(frozen=True, slots=True)
class MemoryMachine:
    """A machine as an oracle sees it: all that was asked for, and what became of it. `silent` ones never register."""

    request: LaunchRequest
    launched: datetime
    boots_at: datetime
    silent: bool = False
    ended: datetime | None = None
    detail: str = ""

    def state(self, now: datetime) -> Literal["starting", "running", "gone"]:
        """As the cloud would call it at `now`."""
        if self.ended is not None:
            return "gone"
        return "starting" if now < self.boots_at else "running"


class MemoryCloud:
    """Implements `Cloud`. Tokens are kept for ever; a token sent again with another request is refused, as EC2 does.

    `hidden_for`: how long `describe` misses a new machine. `boot_time`: how long one is "starting". `remembered_for`: how
    long a gone one is described. All may be changed at any time and hold for what happens next.
    """

    def __init__(self, clock: Clock) -> None:
        self.hidden_for = timedelta(0)
        self.boot_time = timedelta(0)
        self.remembered_for = timedelta(hours=1)
        self._clock = clock
        self._lock = threading.RLock()
        self._machines: dict[str, MemoryMachine] = {}
        self._by_token: dict[str, str] = {}
        self._refusals = 0
        self._silences = 0
        self._deaf: dict[str, int] = {}

    # --- The port ---

    def launch(self, request: LaunchRequest) -> CloudMachine:
        """As the port says; the same token with another request is `LaunchRefused`."""
        with self._lock:
            known = self._by_token.get(request.launch_token)
            if known is not None:
                if self._machines[known].request != request:
                    raise LaunchRefused(
                        f"launch token {request.launch_token} was used for another request: make a new one"
                    )
                return self._seen(self._machines[known])
            if request.machine_id in self._machines:
                raise LaunchRefused(f"machine {request.machine_id} was launched under another token")
            if self._refusals:
                self._refusals -= 1
                raise NoCapacity("there is no such machine to give now")
            now = self._clock()
            silent = self._silences > 0
            self._silences -= silent
            machine = MemoryMachine(request, launched=now, boots_at=now + self.boot_time, silent=silent)
            self._machines[request.machine_id] = machine
            self._by_token[request.launch_token] = request.machine_id
            return self._seen(machine)

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        """As the port says."""
        with self._lock:
            now = self._clock()
            return tuple(
                self._seen(machine)
                for machine in self._machines.values()
                if machine.request.installation == installation
                and now >= machine.launched + self.hidden_for
                and (machine.ended is None or now < machine.ended + self.remembered_for)
            )

    def terminate(self, machine_id: str) -> None:
        """As the port says."""
        with self._lock:
            machine = self._machines.get(machine_id)
            if machine is None or machine.ended is not None:
                return
            if self._deaf.get(machine_id, 0):
                self._deaf[machine_id] -= 1
                raise NotYet(f"machine {machine_id} is still shutting down")
            self._end(machine_id, "terminated")

    # --- What the world does ---

    def refuse_capacity(self, times: int = 1) -> None:
        """The next `times` new launches find no capacity."""
        with self._lock:
            self._refusals = times

    def silence(self, times: int = 1) -> None:
        """The next `times` new machines never register: their `silent` is true in the inventory."""
        with self._lock:
            self._silences = times

    def ignore_terminate(self, machine_id: str, times: int) -> None:
        """The next `times` calls to terminate this machine find it still there."""
        with self._lock:
            self._deaf[machine_id] = times

    def lose(self, machine_id: str, detail: str = "lost") -> None:
        """The machine vanishes with all it runs: a spot interruption, a power cut, or its own power-off."""
        with self._lock:
            self._end(machine_id, detail)

    # --- What oracles ask ---

    def inventory(self) -> tuple[MemoryMachine, ...]:
        """Every machine that ever was, hidden, gone and forgotten ones too, in the order of launching."""
        with self._lock:
            return tuple(self._machines.values())

    def _end(self, machine_id: str, detail: str) -> None:
        machine = self._machines[machine_id]
        if machine.ended is None:
            self._machines[machine_id] = replace(machine, ended=self._clock(), detail=detail)

    def _seen(self, machine: MemoryMachine) -> CloudMachine:
        machine_id = machine.request.machine_id
        return CloudMachine(machine_id, f"memory:{machine_id}", machine.state(self._clock()), machine.detail)
