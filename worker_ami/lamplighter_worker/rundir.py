"""The directory of one attempt, and what a later agent must know to go on with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lamplighter.contract.job import Job
from lamplighter.contract.report import StopReason
from lamplighter.contract.wire import decode, encode
from lamplighter.errors import Invalid
from lamplighter_worker.files import read_json, remove_tree, write_json
from lamplighter_worker.runtimes import DIRECTORIES, Prepared
from lamplighter_worker.stopping import Ending

Phase = Literal["leased", "starting", "running", "ended", "uploaded"]


@dataclass(frozen=True, slots=True)
class RunState:
    """How far an attempt has come. `start` counts the starts that were tried; times are `boottime` within boot `boot`."""

    job: Job
    claim_id: str
    phase: Phase = "leased"
    start: int = 0
    prepared: Prepared = field(default_factory=Prepared)
    told_started: bool = False
    started_at: float = 0.0
    boot: str = ""
    relay_port: int = 0
    stop: StopReason | None = None
    ending: Ending | None = None
    outputs: tuple[str, ...] = ()
    output_metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class RunDirectory:
    """`repository`, `inputs`, `outputs` and `config` are for user code; the rest beside them is the agent's."""

    def __init__(self, path: Path, state: RunState) -> None:
        self.path = path
        self.state = state

    @classmethod
    def create(cls, runs: Path, job: Job, claim_id: str) -> RunDirectory:
        """The directory of a fresh lease. One that is there already keeps its spool: its events were numbered."""
        path = runs / f"{job.execution_id}-{job.epoch}"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = cls(path, RunState(job, claim_id))
        directory.update()
        return directory

    def update(self, **changes: Any) -> None:
        """Changes the state, durably."""
        self.state = replace(self.state, **changes)
        write_json(self.path / "state.json", encode(self.state))

    def clear(self) -> None:
        """Makes the directories that user code sees anew, empty."""
        for name in (*DIRECTORIES, "scratch", "staging"):
            remove_tree(self.path / name)
            (self.path / name).mkdir(mode=0o755 if name in DIRECTORIES else 0o700)

    def remove(self) -> None:
        """Forgets the attempt."""
        (self.path / "state.json").unlink(missing_ok=True)
        remove_tree(self.path)


def found_below(runs: Path) -> Iterator[RunDirectory]:
    """The attempts that an earlier agent left. What cannot be read was never started or is over, and is removed."""
    for path in sorted(runs.iterdir()) if runs.is_dir() else ():
        try:
            state = decode(RunState, read_json(path / "state.json"))
        except Invalid:
            remove_tree(path)
            continue
        yield RunDirectory(path, state)
