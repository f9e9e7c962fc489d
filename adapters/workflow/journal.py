"""The records in which the embedded runner keeps every run, and the transactions that move one from state to state.

| partition | sort | holds |
|---|---|---|
| `workflow#<name>` | `run` | the run; its version guards every change, and it stays when the run has ended |
| `workflows-due` | `<time>#<name>` | one row per run that must be looked at, then or later |
| `workflow-token#<token>` | `token` | whom an answer belongs to, while it is awaited |
| `workflow-definition#<sha256>` | `definition` | the definition that a run was started with: an upgrade changes no run under way |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from adapters.workflow.asl import End, Move, Outcome, Position, begin, needs_token
from lamplighter.ports import ANY, Delete, Json, Key, Metadata, NewId, Put, Record, Write

DUE = "workflows-due"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the journal holds it.

    `phase` is "ready" (the state must act at `due`), "waiting" (it acted; `due` is its end or its timeout) or "ended".
    `transitions` counts the arrows followed, from start to end; `repeats` counts the tries after the first.
    """

    name: str
    definition: str
    revision: str
    argument: Json
    started: str
    state: str
    input: Any
    entered: str
    due: str | None
    token: str | None
    variables: Json = field(default_factory=dict)
    retries: tuple[int, ...] = ()
    phase: Literal["ready", "waiting", "ended"] = "ready"
    status: Literal["running", "succeeded", "failed", "stopped"] = "running"
    transitions: int = 1
    repeats: int = 0
    output: Any = None
    error: str = ""
    cause: str = ""

    @property
    def position(self) -> Position:
        """Where the interpreter finds this run."""
        return Position(self.state, self.input, self.variables, self.retries)

    @property
    def context(self) -> Json:
        """What expressions see as `$states.context`."""
        token = {"Task": {"Token": self.token}} if self.token else {}
        return {
            "Execution": {"Id": self.name, "Name": self.name, "Input": self.argument, "StartTime": self.started},
            "State": {"Name": self.state, "EnteredTime": self.entered, "RetryCount": sum(self.retries)},
            "StateMachine": {"Name": self.definition},
            **token,
        }


def revision_of(definition: Json) -> str:
    """The name under which this very definition is kept."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def first(
    name: str, definition_name: str, definition: Json, argument: Json, *, revision: str, now: datetime, new_id: NewId
) -> Run:
    """A run that is about to enter its first state."""
    position = begin(definition, argument)
    return Run(
        name=name,
        definition=definition_name,
        revision=revision,
        argument=argument,
        started=time_text(now),
        state=position.state,
        input=position.input,
        entered=time_text(now),
        due=time_text(now),
        token=new_id() if needs_token(definition, position.state) else None,
    )


def follow(run: Run, outcome: Outcome, definition: Json, *, now: datetime, new_id: NewId) -> Run:
    """The run after `outcome`. A state that waits gets a token here, so that the journal knows it before anybody else."""
    if isinstance(outcome, End):
        return ended(run, outcome.status, output=outcome.output, error=outcome.error, cause=outcome.cause)
    if isinstance(outcome, Move):
        position, delay, transitions, repeats = outcome.position, 0.0, run.transitions + 1, run.repeats
    else:
        position, delay = replace(run.position, retries=outcome.retries), outcome.seconds
        transitions, repeats = run.transitions, run.repeats + 1
    at = time_text(now + timedelta(seconds=delay))
    return replace(
        run,
        state=position.state,
        input=position.input,
        variables=position.variables,
        retries=position.retries,
        phase="ready",
        entered=at,
        due=at,
        token=new_id() if needs_token(definition, position.state) else None,
        transitions=transitions,
        repeats=repeats,
    )


def ended(
    run: Run,
    status: Literal["succeeded", "failed", "stopped"],
    *,
    output: Any = None,
    error: str = "",
    cause: str = "",
) -> Run:
    """The tombstone of a run: enough to refuse its name and to explain its end."""
    return replace(
        run,
        status=status,
        phase="ended",
        input=None,
        variables={},
        due=None,
        token=None,
        transitions=run.transitions + (status != "stopped"),
        output=output,
        error=error,
        cause=cause,
    )


def change(before: Run | None, after: Run, *, expects: int) -> list[Write]:
    """The writes that turn `before` into `after` if the run's version is still `expects`.

    The other rows follow the run, whose version guards the transaction, so they are right whatever was there (ANY).
    """
    writes: list[Write] = [Put(run_key(after.name), _value(after), expects)]
    old, new = set(_shadows(before)), set(_shadows(after))
    writes += [Delete(key, ANY) for key in sorted(old - new)]
    writes += [Put(key, {"name": after.name}, ANY) for key in sorted(new - old)]
    return writes


def read_run(metadata: Metadata, name: str) -> tuple[Run, int] | None:
    """The run and its version, or None."""
    record = metadata.get(run_key(name))
    if record is None:
        return None
    value = {**record.value, "retries": tuple(record.value["retries"])}
    return Run(name=name, **value), record.version


def due_rows(metadata: Metadata, *, until: datetime | None = None) -> Iterator[Record]:
    """Rows of the due index in order of time, only those due at `until` or before it if given."""
    # "$" is the character after "#", so that every name of that microsecond is included.
    before = None if until is None else time_text(until) + "$"
    cursor = None
    while True:
        page = metadata.query(DUE, before=before, limit=100, cursor=cursor)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            return


def due_time(row: Record) -> datetime:
    """When the run of this row must be looked at."""
    return moment(row.key.sort.partition("#")[0])


def run_key(name: str) -> Key:
    """Where the run is kept."""
    return Key(f"workflow#{name}", "run")


def token_key(token: str) -> Key:
    """Where the owner of a token is kept."""
    return Key(f"workflow-token#{token}", "token")


def definition_key(revision: str) -> Key:
    """Where a definition is kept."""
    return Key(f"workflow-definition#{revision}", "definition")


def due_key(run: Run) -> Key | None:
    """Where the due index has this run, or None if nothing is due for it, ever."""
    return Key(DUE, f"{run.due}#{run.name}") if run.due else None


def time_text(when: datetime) -> str:
    """A time as text of fixed width, so that texts sort as times do."""
    return when.astimezone(UTC).strftime(_TIME)


def moment(text: str) -> datetime:
    """The time that `time_text` wrote."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _shadows(run: Run | None) -> Iterator[Key]:
    if run is None:
        return
    due = due_key(run)
    if due:
        yield due
    if run.token:
        yield token_key(run.token)


def _value(run: Run) -> dict[str, Any]:
    value = {part.name: getattr(run, part.name) for part in fields(run) if part.name != "name"}
    return {**value, "retries": list(run.retries)}
