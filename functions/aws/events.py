"""What EC2 tells of our machines, by EventBridge: for speed only, the sweep is right without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from functions.aws.wiring import CLOUD, sandbox_world
from lamplighter.usecases.cloud_events import machine_gone, spot_notice
from lamplighter.world import World

GONE = frozenset({"shutting-down", "stopping", "stopped", "terminated"})
"""States from which an instance of ours never comes back: it was asked to end, or has."""

_log = logging.getLogger(__name__)


def make_handler(world: Callable[[], World]) -> Callable[[Mapping[str, Any], Any], None]:
    """What Lambda calls with each event. Raises when the event cannot be acted on now: Lambda tries it again."""

    def handle(event: Mapping[str, Any], context: object = None) -> None:  # noqa: ARG001 - Lambda gives it
        detail = event.get("detail") or {}
        kind, instance = str(event.get("detail-type")), str(detail.get("instance-id") or "")
        if not instance:
            _log.warning("an event of the kind %r names no instance: ignored", kind)
        elif kind == "EC2 Instance State-change Notification":
            if detail.get("state") in GONE:
                machine_gone(CLOUD, instance, world=world())
        elif kind == "EC2 Spot Instance Interruption Warning":
            spot_notice(CLOUD, instance, "interruption", world=world())
        elif kind == "EC2 Instance Rebalance Recommendation":
            spot_notice(CLOUD, instance, "rebalance", world=world())
        else:
            _log.warning("an event of the kind %r is not known here: ignored", kind)

    return handle


handler = make_handler(sandbox_world())
