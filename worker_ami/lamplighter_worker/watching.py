"""Stands beside a run until it ends: limits, stop orders, signals, live outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lamplighter.contract.job import Job
from lamplighter.contract.report import StopReason
from lamplighter.errors import LamplighterError, NotAuthenticated, NotFound, StaleEpoch
from lamplighter_worker.capture import Capture
from lamplighter_worker.clock import boottime
from lamplighter_worker.heartbeat import KILL_SECONDS
from lamplighter_worker.notices import MOST_GRACE_SECONDS
from lamplighter_worker.runtimes import Ended, MachineFault, Run
from lamplighter_worker.situation import Situation
from lamplighter_worker.stopping import Escalation

_TICK = 0.05
_SWEEP_SECONDS = 1.0

_MOST_GRACE: dict[StopReason, float] = {"lost_lease": KILL_SECONDS, "interruption": MOST_GRACE_SECONDS}

_ORDERED: dict[StopReason, str] = {
    "user": "Stopping: a stop was requested",
    "time_limit": "Stopping: the time limit is reached",
    "no_output": "Stopping: there was no output for too long",
    "condition": "Stopping: the stop condition is met",
    "shutdown": "Stopping: the machine is being shut down",
    "interruption": "Stopping: the cloud takes this machine back; what is written within the grace time is saved",
    "lost_lease": "Stopping: the control plane cannot be reached and the lease ends",
}


class Watch:
    """`sweep` takes finished outputs away while the run lives; `on_stop` is told the reason before the first signal."""

    def __init__(
        self,
        job: Job,
        situation: Situation,
        capture: Capture,
        *,
        started_at: float,
        sweep: Callable[[], None],
        on_stop: Callable[[StopReason], None],
    ) -> None:
        self._limits = job.limits
        self._situation = situation
        self._capture = capture
        self._started_at = started_at
        self._sweep = sweep
        self._on_stop = on_stop
        self._escalation: Escalation | None = None
        self._swept_at = 0.0

    def until_end(self, run: Run) -> Ended:
        """The run's end. Raises the refusal that ended the lease, or `MachineFault` when the machine can no longer keep what
        the run prints: the run is still alive then, and the caller is to kill it at once.
        """
        while (ended := run.poll()) is None:
            self._situation.look()
            self._look_at_disk()
            self._look_at_limits()
            self._look_at_orders(run)
            self._look_at_outputs()
            self._situation.wait(_TICK)
        return ended

    def _look_at_disk(self) -> None:
        if self._capture.fault is not None:
            raise MachineFault(f"this machine can no longer keep the log: {self._capture.fault}")
        if self._situation.log_refusal is not None:
            raise MachineFault(f"the log was refused: {self._situation.log_refusal}")

    def _look_at_limits(self) -> None:
        now = boottime()
        if self._limits.time_limit and now - self._started_at >= self._limits.time_limit:
            self._situation.ask_to_stop("time_limit")
        quiet_since = max(self._capture.last_output, self._started_at)
        if self._limits.no_output_timeout and now - quiet_since >= self._limits.no_output_timeout:
            self._situation.ask_to_stop("no_output")

    def _look_at_orders(self, run: Run) -> None:
        reason = self._situation.stop
        if reason is None:
            return
        if self._escalation is None:
            grace = min(float(self._limits.stop_grace), _MOST_GRACE.get(reason, float("inf")))
            self._escalation = Escalation(boottime(), grace)
            self._on_stop(reason)
            self._capture.say(_ORDERED[reason])
        if (number := self._escalation.step(boottime())) is not None:
            run.signal(number)

    def _look_at_outputs(self) -> None:
        if boottime() - self._swept_at < _SWEEP_SECONDS:
            return
        self._swept_at = boottime()
        try:
            self._sweep()
        except (StaleEpoch, NotFound, NotAuthenticated):
            raise
        except (LamplighterError, OSError):
            return  # what could not be taken live is taken at the end, where a failure is told


def quiet_seconds(directory: Path, now: float) -> float:
    """How long nothing was written to the run's stdout and stderr, by the files' own times."""
    times = [path.stat().st_mtime for name in ("stdout", "stderr") if (path := directory / name).exists()]
    return max(0.0, now - max(times)) if times else 0.0
