"""Why and how a run is stopped: the first reason counts, and the signals grow harsher until the grace is over."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from lamplighter.contract.job import Job
from lamplighter.contract.report import Outcome, StopReason
from lamplighter_worker.runtimes import Ended

KILLED = 128 + signal.SIGKILL
"""The exit code that a shell and an engine give to what SIGKILL has ended."""


class Halted(Exception):
    """The attempt is to stop before its run has begun."""


class Escalation:
    """SIGINT at once, SIGTERM after half the grace, SIGKILL at its end."""

    def __init__(self, now: float, grace: float) -> None:
        self._due = [(now, signal.SIGINT), (now + grace / 2, signal.SIGTERM), (now + grace, signal.SIGKILL)]

    def step(self, now: float) -> signal.Signals | None:
        """The signal that is due; after the last one, that one again each second."""
        due = [number for moment, number in self._due if moment <= now]
        if not due:
            return None
        self._due = [pair for pair in self._due if pair[0] > now] or [(now + 1, signal.SIGKILL)]
        return due[-1]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, as it will be told."""

    outcome: Outcome
    reason: str = ""
    exit_code: int | None = None
    run_seconds: float | None = None


def judge(job: Job, ended: Ended, stop: StopReason | None, run_seconds: float | None) -> Ending:
    """The ending of a run that was started. A reason to stop outweighs the exit code."""
    if ended.lost:
        return Ending("lost", ended.note, ended.exit_code, run_seconds)
    if stop is not None:
        outcome, reason = _stopped(job, stop)
        return Ending(outcome, reason, ended.exit_code, run_seconds)
    if ended.exit_code == 0:
        return Ending("complete", "", 0, run_seconds)
    return Ending("error", _failure(job, ended), ended.exit_code, run_seconds)


def halted(job: Job, stop: StopReason) -> Ending:
    """The ending of an attempt that was stopped before its run began."""
    outcome, reason = _stopped(job, stop)
    return Ending(outcome, reason)


def _stopped(job: Job, stop: StopReason) -> tuple[Outcome, str]:
    limits = job.limits
    told: dict[StopReason, tuple[Outcome, str]] = {
        "user": ("stopped", "stopped on request"),
        "time_limit": ("error", f"time limit of {limits.time_limit} s reached"),
        "no_output": ("error", f"no output for {limits.no_output_timeout} s"),
        "condition": ("stopped", f"stop condition met: {job.stop_condition}"),
        "shutdown": ("interrupted", "the machine is being shut down"),
        "interruption": ("interrupted", "the cloud takes the machine back"),
        "lost_lease": ("lost", "the control plane could not be reached until the lease ended"),
    }
    return told[stop]


def _failure(job: Job, ended: Ended) -> str:
    if ended.out_of_memory:
        limit = f" (limit {job.limits.memory_mib} MiB)" if job.limits.memory_mib else ""
        return f"killed: out of memory{limit}"
    if ended.note:
        return ended.note
    if ended.exit_code == KILLED and job.limits.memory_mib:
        # An engine does not always notice why the kernel has killed a container; nobody of ours has.
        return f"killed, most likely out of memory (limit {job.limits.memory_mib} MiB)"
    return f"exit code {ended.exit_code}"
