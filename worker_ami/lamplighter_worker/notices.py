"""What the machine's cloud says of the machine's end, and how soon all must be told then.

On EC2: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html and, for the earlier and vaguer
word, rebalance-recommendations.html beside it. A notice may never come: then the machine simply vanishes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

from lamplighter.contract.report import Notice
from lamplighter.errors import Unavailable
from lamplighter_worker.clock import boottime
from lamplighter_worker.metadata_service import MetadataService

BUDGET_SECONDS = 110.0
"""From the notice of an interruption until the agent is done. The cloud promises 120, and the notice was found up to 5 late."""

TELLING_SECONDS = 15.0
"""What of the budget is kept for the last lines of the log and for the end: uploads are cut before."""

MOST_GRACE_SECONDS = 60.0
"""What of the budget user code may take at most, whatever its grace is: the rest is for its outputs."""

LOOK_EVERY_SECONDS = 5.0

_GRAVITY: tuple[Notice, ...] = ("", "rebalance", "interruption")
_INTERRUPTION = "/latest/meta-data/spot/instance-action"
_REBALANCE = "/latest/meta-data/events/recommendations/rebalance"


class Notices:
    """The gravest notice so far. Heard from the machine itself and from the control plane, in several threads."""

    def __init__(self, budget_seconds: float = BUDGET_SECONDS) -> None:
        self._budget = budget_seconds
        self._lock = threading.Lock()
        self._notice: Notice = ""
        self._interrupted_at: float | None = None

    @property
    def notice(self) -> Notice:
        return self._notice

    def hear(self, notice: Notice) -> None:
        """Counts from the first word on; a lesser notice after a graver one, or the same one again, changes nothing."""
        with self._lock:
            if _GRAVITY.index(notice) > _GRAVITY.index(self._notice):
                self._notice = notice
            if self._notice == "interruption" and self._interrupted_at is None:
                self._interrupted_at = boottime()

    @property
    def interrupted(self) -> bool:
        return self._interrupted_at is not None

    @property
    def over_at(self) -> float | None:
        """When all must have been told, by `boottime`; None while no interruption is announced."""
        return None if self._interrupted_at is None else self._interrupted_at + self._budget


class SpotWatch:
    """A thread that asks an EC2 machine's metadata service every few seconds, until an interruption is announced or the process
    ends.
    """

    def __init__(self, service: MetadataService, heard: Callable[[Notice], None]) -> None:
        self._service = service
        self._heard = heard
        self._thread = threading.Thread(target=self._run, name="spot-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                if self._announces(_INTERRUPTION, "action"):
                    self._heard("interruption")
                    return
                if self._announces(_REBALANCE, "noticeTime"):
                    self._heard("rebalance")
            except Unavailable:
                pass  # the service is asked again soon, and the control plane is the second source
            time.sleep(LOOK_EVERY_SECONDS)

    def _announces(self, path: str, field: str) -> bool:
        text = self._service.get(path)
        try:
            said = json.loads(text or "null")
        except ValueError:
            return False
        return isinstance(said, dict) and bool(said.get(field))
