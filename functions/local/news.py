"""What an operator must hear of: failed launches, lost attempts, parked intents, and what the sweep had to put right."""

from __future__ import annotations

import heapq
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from lamplighter import keys
from lamplighter.domain.capacity import Pool
from lamplighter.intents import AuditRecord, Intent
from lamplighter.ports import Record
from lamplighter.records import find, walk
from lamplighter.usecases.installation import read_installation
from lamplighter.usecases.sweep_report import SweepReport
from lamplighter.world import World

SETTLED_AFTER = timedelta(seconds=2)
"""Records of the audit get their place before they are committed: by then, none comes in before one that was read."""

_PUT_RIGHT = ("lost", "fenced", "requeued", "orphans", "braked")
_ENDS = {"execution.queued": "execution requeued", "execution.crashed": "execution crashed"}

_log = logging.getLogger(__name__)


class News:
    """Tells each thing once, as a line `what key=value ...` in the server's log; nothing when nothing happened."""

    def __init__(self, world: World) -> None:
        """What ended before this moment is not told; what is still parked or failing is."""
        self._world = world
        self._read_to: dict[str, str] = {}
        self._parked: frozenset[str] = frozenset()
        self._failures: dict[str, int] = {}
        self._faults: frozenset[str] = frozenset()
        if installation := read_installation(world.metadata):
            for partition in keys.audit_partitions(installation.organisation_id):
                newest = world.metadata.query(partition, newest_first=True, limit=1).records
                self._read_to[partition] = newest[0].key.sort if newest else ""

    def tell(self, report: SweepReport) -> None:
        """One line for what the sweep did, and one for each other thing that is new since the last call."""
        if any(getattr(report, name) for name in _PUT_RIGHT):
            _warn("sweep", unreachable=report.unreachable, **{name: getattr(report, name) for name in _PUT_RIGHT})
        for fault in sorted(set(report.faults) - self._faults):
            _warn("sweep fault", because=fault)
        self._faults = frozenset(report.faults)
        self._tell_failed_launches()
        self._tell_lost_attempts()
        self._tell_parked()

    def _tell_failed_launches(self) -> None:
        for row in walk(self._world.metadata, keys.ENVIRONMENTS):
            pool = find(self._world.metadata, Pool, keys.capacity(str(row.value["environment_id"])))
            failures = pool.value.failures if pool else 0
            if pool and failures > self._failures.get(row.key.sort, 0):
                again = pool.value.not_before.isoformat(timespec="seconds") if pool.value.not_before else "now"
                _warn(
                    "launch failed",
                    environment=row.key.sort,
                    in_a_row=failures,
                    next_try=again,
                    because=pool.value.last_failure,
                )
            self._failures[row.key.sort] = failures

    def _tell_lost_attempts(self) -> None:
        settled = _first_id_of(int((self._world.now() - SETTLED_AFTER).timestamp() * 1000))
        for row in heapq.merge(*(self._fresh(p, settled) for p in self._read_to), key=lambda row: row.key.sort):
            if what := _ENDS.get(str(row.value.get("action"))):
                _tell_end(what, find(self._world.metadata, AuditRecord, row.key))

    def _fresh(self, partition: str, settled: str) -> Iterator[Record]:
        """What one partition of the audit has that was not read before."""
        while True:
            page = self._world.metadata.query(partition, after=self._read_to[partition] or None, before=settled)
            for row in page.records:
                self._read_to[partition] = row.key.sort
                yield row
            if page.cursor is None:
                return

    def _tell_parked(self) -> None:
        partition = keys.parked("-").partition
        parked = {row.key.sort: row.key for row in walk(self._world.metadata, partition)}
        for intent_id in sorted(parked.keys() - self._parked):
            if intent := find(self._world.metadata, Intent, parked[intent_id]):
                it = intent.value
                about = {name: value for name, value in it.argument.items() if name.endswith("_id")}
                _warn("intent parked", intent=it.id, kind=it.kind, **about, tries=it.tries, because=it.last_error)
        self._parked = frozenset(parked)


def _tell_end(what: str, stored: Any) -> None:
    if stored:
        _warn(what, execution=stored.value.object, because=stored.value.detail.get("why", ""))


def _first_id_of(milliseconds: int) -> str:
    """The least UUIDv7 of that moment."""
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}"


def _warn(what: str, **facts: Any) -> None:
    _log.warning("%s %s", what, " ".join(f"{name}={_plain(value)}" for name, value in facts.items()))


def _plain(value: Any) -> str:
    """A number or a plain word as it is, any other text quoted on one line."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if text and not set(text) & set(" \t\r\n\"'=") and text.isprintable() else json.dumps(text)
