"""Find executions, and read their logs, status events and metadata."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lamplighter import keys
from lamplighter.contract.wire import format_time
from lamplighter.domain.executions import INCOMPLETE, Execution, Status
from lamplighter.domain.projects import Principal
from lamplighter.errors import NotFound
from lamplighter.ports import Record
from lamplighter.records import Stored, find, find_many, walk
from lamplighter.usecases.access import need_id, need_project, readable_projects
from lamplighter.usecases.status_events import moment, read_line
from lamplighter.usecases.watchers import note_watcher
from lamplighter.world import World

DEFAULT_EVENTS = 2000
STREAMS = ("stdout", "stderr", "status")
_REFERENCE = re.compile(r"^([0-9a-fA-F-]{36}):(latest|[0-9]{1,10})$")


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """What to list. `statuses` may hold the pseudo-status "incomplete". `deleted` None means both."""

    project_id: str | None = None
    statuses: tuple[str, ...] = ()
    counters: tuple[int, ...] = ()
    creator: str | None = None
    deleted: bool | None = False
    step: str | None = None
    newest_first: bool = True
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class EventPage:
    """Log lines in order as (time, stream, message). `total` counts all; `truncated`: older ones are left out."""

    total: int
    truncated: bool
    limit: int
    events: tuple[tuple[str, str, str], ...]


def own_execution(principal: Principal, execution_id: str, *, world: World, deleted: bool = False) -> Stored[Execution]:
    """The execution, if the caller may know of it. Raises `NotFound` otherwise, and for deleted ones unless asked for."""
    stored = find(world.metadata, Execution, keys.execution(need_id(execution_id, "execution")))
    if not stored or stored.value.organisation_id != principal.organisation_id:
        raise NotFound("This execution does not exist")
    if stored.value.deleted and not deleted:
        raise NotFound("This execution does not exist")
    return stored


def get_execution(principal: Principal, reference: str, *, world: World) -> Execution:
    """By id, by `<project>:<counter>`, or `<project>:latest`. Raises `NotFound`."""
    match = _REFERENCE.match(reference)
    if not match:
        return own_execution(principal, reference, world=world).value
    project = need_project(principal, match[1].lower(), world=world).value
    if match[2] == "latest":
        newest = list_executions(principal, ExecutionFilter(project.id, limit=1), world=world)[0]
        if not newest:
            raise NotFound("This project has no executions yet")
        return newest[0]
    pointer = world.metadata.get(keys.execution_by_counter(project.id, int(match[2])))
    if not pointer:
        raise NotFound("This execution does not exist")
    return own_execution(principal, str(pointer.value["execution_id"]), world=world).value


def list_executions(principal: Principal, wanted: ExecutionFilter, *, world: World) -> tuple[list[Execution], int]:
    """Matching executions and how many there are in all."""
    readable = [wanted.project_id] if wanted.project_id else [p.id for p in readable_projects(principal, world=world)]
    found: list[Execution] = []
    for project_id in readable:
        need_project(principal, project_id, world=world)
        found.extend(e for e in _walk(project_id, wanted, world) if _matches(e, wanted))
    if not wanted.project_id:
        found.sort(key=lambda e: e.id, reverse=wanted.newest_first)
    return found[wanted.offset : wanted.offset + wanted.limit], len(found)


def read_events(principal: Principal, execution_id: str, limit: int | None, *, world: World) -> EventPage:
    """The last `limit` lines of the log in ascending order; all of them for 0; DEFAULT_EVENTS for None."""
    note_watcher(own_execution(principal, execution_id, world=world).value, world=world)
    wanted = DEFAULT_EVENTS if limit is None or limit < 0 else limit
    said = [read_line(r) for r in walk(world.metadata, keys.status_events(execution_id))]
    segments = list(walk(world.metadata, keys.segments(execution_id)))
    total = sum(int(s.value["count"]) for s in segments) + len(said)
    lines: list[tuple[str, str, str]] = []
    for segment in reversed(segments):
        if wanted and len(lines) >= wanted:
            break
        lines[:0] = _lines(segment, world)
    merged = sorted([*lines, *said], key=lambda event: event[0])
    shown = merged[-wanted:] if wanted else merged
    return EventPage(total, len(shown) < total, wanted, tuple(shown))


def read_status_events(principal: Principal, execution_id: str, limit: int | None, *, world: World) -> EventPage:
    """Only the status lines, the agent's and our own."""
    page = read_events(principal, execution_id, 0, world=world)
    lines = [event for event in page.events if event[1] == "status"]
    wanted = limit or len(lines)
    return EventPage(len(lines), wanted < len(lines), wanted, tuple(lines[-wanted:] if wanted else lines))


def read_metadata(principal: Principal, execution_id: str, *, world: World) -> list[dict[str, Any]]:
    """Every metadata point with the time of its line under `_time` (unless the run printed one), oldest first."""
    note_watcher(own_execution(principal, execution_id, world=world).value, world=world)
    points = []
    for segment in walk(world.metadata, keys.segments(execution_id)):
        if not segment.value["points"]:
            continue
        body, first = _body(segment, world), int(segment.key.sort)
        for seq, point in body["metadata"]:
            at = format_time(moment(body["lines"][seq - first][0]))
            points.append({"_time": at, **point})
    return points


def _walk(project_id: str, wanted: ExecutionFilter, world: World) -> Iterator[Execution]:
    if wanted.counters:
        pointers = world.metadata.get_many([keys.execution_by_counter(project_id, n) for n in set(wanted.counters)])
        records = sorted(pointers.values(), key=lambda r: r.key, reverse=wanted.newest_first)
    else:
        live_only = bool(wanted.statuses) and not _statuses(wanted) - set(INCOMPLETE)
        partition = keys.live_of_project(project_id) if live_only else keys.executions(project_id)
        records = list(walk(world.metadata, partition, newest_first=wanted.newest_first))
    ids = [str(r.value["execution_id"]) for r in records]
    for stored in find_many(world.metadata, Execution, [keys.execution(i) for i in ids]):
        yield stored.value


def _statuses(wanted: ExecutionFilter) -> set[Status]:
    names = {s for s in wanted.statuses if s != "incomplete"}
    chosen = {status for status in Status if status.value in names}
    return chosen | set(INCOMPLETE) if "incomplete" in wanted.statuses else chosen


def _matches(execution: Execution, wanted: ExecutionFilter) -> bool:
    return (
        (wanted.deleted is None or execution.deleted == wanted.deleted)
        and (not wanted.statuses or execution.status in _statuses(wanted))
        and (wanted.creator is None or execution.creator_id == wanted.creator)
        and (wanted.step is None or execution.step == wanted.step)
    )


def _lines(segment: Record, world: World) -> list[tuple[str, str, str]]:
    return [(format_time(moment(at)), STREAMS[stream], text) for at, stream, text in _body(segment, world)["lines"]]


def _body(segment: Record, world: World) -> dict[str, Any]:
    store = world.stores.named(str(segment.value["store"]))
    plain = gzip.decompress(b"".join(store.get(str(segment.value["body"]))))
    body: dict[str, Any] = json.loads(plain.decode("utf-8", "surrogatepass"))
    return body
