"""The long part of a sweep: every live execution waits in its queue, or is held; and its state machine knows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice

from lamplighter import keys
from lamplighter.domain.executions import Execution, Status
from lamplighter.domain.leases import Lease
from lamplighter.domain.sweeps import Place
from lamplighter.errors import Conflict
from lamplighter.ports import Key, Record
from lamplighter.records import Stored, new, stored, walk
from lamplighter.usecases.queueing import queue_key
from lamplighter.usecases.sweep_report import SweepReport
from lamplighter.world import World

READ_TOGETHER = 25
"""Executions whose records are read at once. DynamoDB gives up to 100 items in one answer, and there are three of each
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html).
"""


class ExecutionsWalk:
    """One walk over the live executions, in the order of their environments' ids and then of their own.

    It begins after `place`, and ends at `until` (never, for None): `place` is then where the next one goes on. After a whole
    walk it is None.
    """

    def __init__(self, place: Place | None, until: datetime | None, report: SweepReport, world: World) -> None:
        self.place = place
        self._until = until
        self._report = report
        self._world = world

    def through(self, environments: Sequence[str]) -> None:
        """Look at each, and put right what is wrong. A fault is reported, and keeps from nothing but what it befell."""
        for environment_id in sorted(environments):
            if self.place and environment_id < self.place.environment_id:
                continue
            self._report.attempt(partial(self._through_environment, environment_id))
            if self._report.cut:
                return
        self.place = None

    def _through_environment(self, environment_id: str) -> None:
        begun = self.place and self.place.environment_id == environment_id
        after = self.place.execution_id if self.place and begun else None
        rows = walk(self._world.metadata, keys.live_of_environment(environment_id), after=after)
        while not self._time_is_up() and (ids := [row.key.sort for row in islice(rows, READ_TOGETHER)]):
            self._report.attempt(partial(self._together, environment_id, ids))
            if not self._report.cut:
                self.place = Place(environment_id, ids[-1])

    def _time_is_up(self) -> bool:
        self._report.cut = self._report.cut or (self._until is not None and self._world.now() >= self._until)
        return self._report.cut

    def _together(self, environment_id: str, ids: Sequence[str]) -> None:
        """A single state machine may be slow to start: time is looked at before each execution but the first, so that every
        batch that was read brings the walk on.
        """
        kinds = (keys.execution, keys.lease, keys.workflow_token)
        records = self._world.metadata.get_many([key(execution_id) for execution_id in ids for key in kinds])
        read = [self._report.attempt(partial(_live, execution_id, records)) for execution_id in ids]
        found = [live for live in read if live]
        queued = self._world.metadata.get_many([live.waits_at for live in found if live.waits_at])
        for n, live in enumerate(found):
            if n and self._time_is_up():
                return
            self._report.attempt(partial(self._put_right, live, queued))
            self._report.looked_at += 1
            self.place = Place(environment_id, live.execution.value.id)

    def _put_right(self, live: _Live, queued: Mapping[Key, Record]) -> None:
        if live.waits_at and live.waits_at not in queued:
            self._requeue(live.execution, live.waits_at)
        if not live.known_to_workflow:
            execution_id = live.execution.value.id
            self._world.workflow.start("execution", f"execution-{execution_id}", {"execution_id": execution_id})

    def _requeue(self, execution: Stored[Execution], key: Key) -> None:
        try:
            entry = new(key, {"execution_id": execution.value.id})
            self._world.metadata.transact([execution.unchanged(), entry])
        except Conflict:
            return
        self._report.requeued += 1


@dataclass(frozen=True, slots=True)
class _Live:
    """`waits_at`: where it must stand in its queue, None while it is held or runs."""

    execution: Stored[Execution]
    waits_at: Key | None
    known_to_workflow: bool


def _live(execution_id: str, records: Mapping[Key, Record]) -> _Live | None:
    """None where the records are gone. Raises `Invalid` for one that cannot be read."""
    row, lease_row = records.get(keys.execution(execution_id)), records.get(keys.lease(execution_id))
    if not row or not lease_row:
        return None
    execution, lease = stored(Execution, row), stored(Lease, lease_row)
    waits = not lease.value.held and execution.value.status is Status.QUEUED
    known = keys.workflow_token(execution_id) in records
    return _Live(execution, queue_key(execution.value) if waits else None, known)
