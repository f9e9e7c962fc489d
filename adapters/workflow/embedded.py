"""Runs the state machines inside this process and journals every step to the metadata, so that a kill loses nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from adapters.workflow import asl, journal
from adapters.workflow.driver import Driver
from adapters.workflow.journal import Run
from adapters.workflow.subset import check_subset
from lamplighter.errors import AlreadyExists, Conflict, Invalid, LamplighterError, NotFound, TooLarge, kind_of
from lamplighter.ports import ABSENT, ANY, Check, Clock, Delete, Json, Metadata, NewId, Put, Record, Write

_PASS_RECORDS = 100
"""Rows of the due index that `run_due` takes at once before it looks again."""

_LOST: Json = {"States": {}}
"""Stands for a definition that the journal no longer has: the run fails, and says which state it misses."""

_log = logging.getLogger(__name__)


class EmbeddedWorkflow:
    """The `Workflow` port over the `Metadata` port; several of them, in several processes, may share one journal.

    `definitions` are state machines by name, within the subset of `state_machines/README.md`. `tasks` stands in for the
    Lambda function: it is called with the payload of a state, at least once and perhaps more often, and its exceptions
    become errors under the name of their class. A run keeps the definition that it was started with.
    """

    def __init__(
        self,
        metadata: Metadata,
        definitions: Mapping[str, Json],
        tasks: Callable[[Json], object],
        clock: Clock,
        new_id: NewId,
    ) -> None:
        """Raises `Invalid` with every reason why a definition cannot be run."""
        reasons = {name: check_subset(definition) for name, definition in definitions.items()}
        if any(reasons.values()):
            raise Invalid({name: texts for name, texts in reasons.items() if texts})
        self._metadata = metadata
        self._revisions = {name: journal.revision_of(definition) for name, definition in definitions.items()}
        self._definitions = {self._revisions[name]: definition for name, definition in definitions.items()}
        self._kept: set[str] = set()
        self._tasks = tasks
        self._clock = clock
        self._new_id = new_id
        self._driver: Driver | None = None
        self._driver_lock = Lock()

    def start(self, definition: str, name: str, argument: Json) -> None:
        """As the port says. Raises `TooLarge` for an argument that cannot travel."""
        revision = self._revisions.get(definition)
        if revision is None:
            known = ", ".join(sorted(self._revisions))
            raise NotFound(f"the workflow {name} cannot be started: there is no definition {definition} (only {known})")
        argument = _plain(f"the argument of the workflow {name}", argument)
        while True:
            found = journal.read_run(self._metadata, name)
            if found is not None:
                _expect_same(found[0], definition, argument)
                return
            if self._begin(definition, revision, name, argument):
                break
        self._wake()

    def resume(self, token: str, output: Json) -> None:
        """As the port says. Raises `TooLarge` for an output that cannot travel."""
        result = _plain(f"the answer to the token {token}", output)
        self._answer(token, lambda definition, run: asl.complete(definition, run.position, run.context, result))

    def fail(self, token: str, error: str, cause: str) -> None:
        """As the port says."""
        self._answer(token, lambda definition, run: asl.fault(definition, run.position, run.context, error, cause))

    def stop(self, name: str, cause: str) -> None:
        """As the port says. A task that is being called is not interrupted; what it gives back is ignored."""
        while True:
            found = journal.read_run(self._metadata, name)
            if found is None or found[0].phase == "ended":
                return
            run, version = found
            if self._record(run, version, journal.ended(run, "stopped", cause=cause[: asl.MAX_CAUSE_CHARACTERS])):
                return

    def run_due(self, now: datetime) -> int:
        """Do all that is due at `now`, and what becomes due by that, in this thread; says how many steps were taken."""
        steps = 0
        while True:
            rows = journal.due_rows(self._metadata, until=self._latest(now))
            batch = [row for row, _ in zip(rows, range(_PASS_RECORDS), strict=False)]
            if not batch:
                return steps
            for row in batch:
                self._advance(row, now)
            steps += len(batch)

    def start_driver(self) -> None:
        """Run from now on in threads of our own whatever is due. Repeatable."""
        with self._driver_lock:
            if self._driver is None:
                self._driver = Driver(lambda: journal.due_rows(self._metadata), self._advance, self._clock)

    def stop_driver(self) -> None:
        """End the threads after the tasks that they are running. Repeatable; `start_driver` may follow."""
        with self._driver_lock:
            driver, self._driver = self._driver, None
        if driver is not None:
            driver.stop()

    def _begin(self, definition: str, revision: str, name: str, argument: Json) -> bool:
        """Journal the new run; False if somebody was faster."""
        content = self._definitions[revision]
        run = journal.first(
            name, definition, content, argument, revision=revision, now=self._clock(), new_id=self._new_id
        )
        writes: list[Write] = journal.change(None, run, expects=ABSENT)
        if revision not in self._kept:
            # ANY: the key is the hash of the value.
            writes.append(Put(journal.definition_key(revision), content, ANY))
        try:
            self._metadata.transact(writes)
        except Conflict:
            return False
        self._kept.add(revision)
        return True

    def _answer(self, token: str, decide: Callable[[Json, Run], asl.Outcome]) -> None:
        while True:
            owner = self._metadata.get(journal.token_key(token))
            found = journal.read_run(self._metadata, owner.value["name"]) if owner else None
            if found is None or found[0].token != token:
                return
            run, version = found
            outcome = decide(self._definition(run), run)
            if self._follow(run, version, outcome, self._clock()):
                break
        self._wake()

    def _advance(self, row: Record, now: datetime) -> None:
        found = journal.read_run(self._metadata, row.value["name"])
        if found is None or journal.due_key(found[0]) != row.key:
            self._forget(row, found)
            return
        run, version = found
        if run.phase == "waiting":
            self._elapsed(run, version, now)
        else:
            self._act(run, version, now)

    def _forget(self, row: Record, found: tuple[Run, int] | None) -> None:
        """Remove a row of the due index that its run has left behind, unless the run moves on meanwhile."""
        if found is None:
            guard = Check(journal.run_key(row.value["name"]), ABSENT)
        else:
            guard = Check(journal.run_key(found[0].name), found[1])
        try:
            self._metadata.transact([Delete(row.key, row.version), guard])
        except Conflict:
            _log.debug("the row %s of the due index has changed: left alone", row.key.sort)

    def _elapsed(self, run: Run, version: int, now: datetime) -> None:
        definition = self._definition(run)
        if run.token:
            outcome = asl.fault(definition, run.position, run.context, asl.TIMEOUT, _timeout_cause(run))
        else:
            outcome = asl.complete(definition, run.position, run.context, run.input)
        self._follow(run, version, outcome, self._latest(now))

    def _act(self, run: Run, version: int, now: datetime) -> None:
        action = asl.act(self._definition(run), run.position, run.context)
        if isinstance(action, asl.Sleep):
            self._record(run, version, replace(run, phase="waiting", due=_after(run, action.seconds)))
        elif isinstance(action, asl.Call):
            self._call(run, version, action, now)
        else:
            self._follow(run, version, action, self._latest(now))

    def _call(self, run: Run, version: int, call: asl.Call, now: datetime) -> None:
        definition = self._definition(run)
        due = None if call.seconds is None else _after(run, call.seconds)
        if due is not None and due <= journal.time_text(self._latest(now)):
            self._elapsed(run, version, now)
            return
        try:
            answer = self._tasks(call.payload)
        except Exception as error:
            outcome = asl.fault(definition, run.position, run.context, *_explained(run, error))
        else:
            if call.waits:
                self._record(run, version, replace(run, phase="waiting", due=due))
                return
            result = {"ExecutedVersion": "$LATEST", "Payload": answer, "StatusCode": 200}
            outcome = asl.complete(definition, run.position, run.context, result)
        self._follow(run, version, outcome, self._latest(now))

    def _follow(self, run: Run, version: int, outcome: asl.Outcome, now: datetime) -> bool:
        after = journal.follow(run, outcome, self._definition(run), now=now, new_id=self._new_id)
        return self._record(run, version, after)

    def _record(self, before: Run, version: int, after: Run) -> bool:
        """Journal the step; False if somebody else has moved the run on since it was read: then theirs counts."""
        try:
            self._metadata.transact(journal.change(before, after, expects=version))
        except Conflict:
            return False
        return True

    def _definition(self, run: Run) -> Json:
        """The definition that the run was started with, perhaps by an older release."""
        if run.revision not in self._definitions:
            record = self._metadata.get(journal.definition_key(run.revision))
            if record is None:
                return _LOST
            self._definitions[run.revision] = record.value
        return self._definitions[run.revision]

    def _latest(self, now: datetime) -> datetime:
        """A task takes time: what follows it happens later than what made it due."""
        return max(now, self._clock())

    def _wake(self) -> None:
        driver = self._driver
        if driver is not None:
            driver.wake()


def _expect_same(run: Run, definition: str, argument: Json) -> None:
    if run.definition != definition or run.argument != argument:
        raise AlreadyExists(
            f"the workflow {run.name} cannot be started as {definition}: it was started as {run.definition}, at "
            f"{run.started}, with another argument or definition; choose another name"
        )


def _plain(what: str, value: Json) -> Any:
    """The value as it will be read back from the journal."""
    reason = asl.size_fault(value)
    if reason:
        raise TooLarge(f"{what} cannot be kept: {reason}")
    return json.loads(json.dumps(value))


def _explained(run: Run, error: Exception) -> tuple[str, str]:
    """Name and cause of a failed task, in the form that Step Functions gives those of a Lambda function."""
    name = kind_of(error).__name__ if isinstance(error, LamplighterError) else type(error).__name__
    if not isinstance(error, LamplighterError):
        _log.error("a task of the state %s of the workflow %s failed", run.state, run.name, exc_info=error)
    return name, json.dumps({"errorMessage": str(error)[:4000], "errorType": name})


def _timeout_cause(run: Run) -> str:
    return f"the state {run.state}, entered at {run.entered}, was not answered in time"


def _after(run: Run, seconds: Any) -> str:
    return journal.time_text(journal.moment(run.entered) + timedelta(seconds=seconds))
