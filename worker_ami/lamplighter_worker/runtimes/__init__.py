"""Ways to run a step: what every runtime promises."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lamplighter.contract.job import Job
from lamplighter.contract.job import Runtime as RuntimeName

DIRECTORIES = ("repository", "inputs", "outputs", "config")
"""What user code sees of a run's directory, and all that it may write to."""


class MachineFault(Exception):
    """The machine failed, not the run: the disk is full, the container engine is gone. The work goes elsewhere."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `lost`: the machine lost it. `note` says more than the exit code, for people."""

    exit_code: int | None
    out_of_memory: bool = False
    lost: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What will run: the digest of the image, or the interpreter that is there instead."""

    image_digest: str = ""
    interpreter: str = ""


@dataclass(frozen=True, slots=True)
class Spec:
    """A run to start or to find again. `start` counts the starts of one lease, so that a late one can be told apart."""

    job: Job
    directory: Path
    machine_id: str
    environment: Mapping[str, str]
    start: int = 0

    @property
    def name(self) -> str:
        """Names the run on this machine."""
        return f"lamplighter-{self.job.execution_id}-{self.job.epoch}"


class Run(Protocol):
    """A run that was started. Its output goes to the files stdout and stderr, whether the agent lives or not."""

    def poll(self) -> Ended | None:
        """None while the run lives. Once it gives an end, nothing more is written to the files."""

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the run's whole process group; nothing happens when it has ended."""

    def remove(self) -> None:
        """Kills what is left of the run and removes all traces outside its directory; repeatable."""


class Runtime(Protocol):
    """A way to run steps."""

    name: RuntimeName
    detail: str

    def visible(self, directory: Path) -> dict[str, str]:
        """Where user code sees each of `DIRECTORIES` of the run in `directory`."""

    def base_environment(self, directory: Path) -> dict[str, str]:
        """Variables that every run needs, the user's own may replace them."""

    def gateway(self) -> str | None:
        """This machine's address as user code sees it, when user code cannot reach the machine's loopback; else None."""

    def prepare(self, job: Job, say: Callable[[str], None], check: Callable[[], None]) -> Prepared:
        """Everything that takes long before a start. `check` is called often and may raise to leave.

        Raises a `LamplighterError` for a fault of the job, `MachineFault` for one of the machine.
        """

    def start(self, spec: Spec) -> Run:
        """Starts the run. Raises as `prepare` does."""

    def adopt(self, spec: Spec, say: Callable[[str], None]) -> Run | None:
        """The run that an earlier agent started from this spec; None if it never began, and then it never will."""

    def sweep(self, machine_id: str, keep: str | None) -> None:
        """Removes the runs of this machine except the one named `keep`: nobody waits for them any more."""
