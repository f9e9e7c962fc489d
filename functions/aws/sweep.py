"""Every minute: compare what is wanted with what is, and count what was found."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from functions.aws.wiring import sandbox_world
from lamplighter.usecases.gauges import Gauges, read_gauges
from lamplighter.usecases.sweep import sweep
from lamplighter.usecases.sweep_report import SweepReport
from lamplighter.world import World

NAMESPACE = "Lamplighter"

METRICS = {
    "faults": "Count",
    "machines": "Count",
    "orphans": "Count",
    "outbox_seconds": "Seconds",
    "parked": "Count",
}
"""Those that an alarm watches, with their units. The others stay in the log's line."""

STEADY = "faults"
"""Told by every sweep: its silence is an alarm. CloudWatch bills a metric for each hour in which it is told, so that the rest is
told only when it is not zero.
"""

SECONDS = 45.0
"""For one sweep: it has ended when the next begins, a minute later."""

MARGIN_SECONDS = 75.0
"""Kept back of what Lambda has left: a last call that was begun in time may be tried three times for 25 s."""

_log = logging.getLogger(__name__)


def make_handler(world: Callable[[], World]) -> Callable[[Mapping[str, Any], Any], None]:
    """What Lambda calls with each event of the scheduler, whatever it holds. Raises what nobody can explain, for the alarm."""

    def handle(event: Mapping[str, Any], context: Any = None) -> None:  # noqa: ARG001 - Lambda gives it
        known = world()
        begun = time.monotonic()
        report = sweep(world=known, seconds=_seconds(context))
        gauges = read_gauges(world=known)
        print(json.dumps(_line(report, gauges, known.installation.id, time.monotonic() - begun)), flush=True)

    return handle


def _seconds(context: Any) -> float:
    """What this sweep may use. A context that cannot tell what is left is none of Lambda's."""
    if not hasattr(context, "get_remaining_time_in_millis"):
        return SECONDS
    left = float(context.get_remaining_time_in_millis()) / 1000
    return max(0.0, min(SECONDS, left - MARGIN_SECONDS))


def _line(report: SweepReport, gauges: Gauges, installation: str, seconds: float) -> dict[str, Any]:
    """One line that is the log's record of the sweep, and by the embedded metric format CloudWatch's counters too.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    found = {**asdict(report), **asdict(gauges)}
    counters = {name: int(value) for name, value in found.items() if isinstance(value, int)}
    counters |= {"faults": len(report.faults), "milliseconds": round(seconds * 1000)}
    metrics = [{"Name": name, "Unit": unit} for name, unit in METRICS.items() if counters[name] or name == STEADY]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["installation"]], "Metrics": metrics}
    about = {"Timestamp": round(time.time() * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": about, "message": "sweep", "installation": installation, **counters, "because": list(report.faults)}


handler = make_handler(sandbox_world())
