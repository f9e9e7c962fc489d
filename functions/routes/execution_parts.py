"""What belongs to one execution: its log, metadata, outputs, tags, and why it waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from pydantic import BaseModel

from functions.presentation import data as show_data
from functions.presentation.common import Limit, Offset, Page, Shape, page_of
from functions.routes.base import new_router
from functions.routes.callers import Person
from lamplighter.domain.executions import Execution
from lamplighter.usecases import attempts, browse, change_execution, explain

router = new_router()

Last = Annotated[int | None, Query(ge=0, description="Only the last so many lines; 0 means all.")]


class Event(Shape):
    """A log line; `stream` is stdout, stderr or status. No two lines of an execution have the same time."""

    stream: str
    time: str
    message: str


class Events(Shape):
    """Log lines, oldest first. `total` counts all there are; `truncated` says that older ones are left out."""

    total: int
    truncated: bool
    limit: int
    events: list[Event]


class StatusEvents(Shape):
    """Status lines, oldest first."""

    total: int
    truncated: bool
    limit: int
    status_events: list[Event]


class Reason(Shape):
    """One cause of waiting: the numbers it rests on, and what would unblock it."""

    code: str
    text: str
    numbers: dict[str, int | float]
    unblock: str


class Explanation(Shape):
    """Why an execution waits, most important first; no reasons: it does not."""

    status: str
    reasons: list[Reason]


class Tags(BaseModel):
    """All the tags that the execution shall have."""

    tags: list[str]


class TagsShown(Shape):
    """All the tags that the execution has."""

    tags: list[str]


@router.get("/api/v0/executions/<reference>/events/", operation_id="listEvents", tags=["executions"], summary="The log")
def list_events(call: Person, reference: str, limit: Last = None) -> Events:
    found = _execution(call, reference)
    page = browse.read_events(call.principal, found.id, limit, world=call.world)
    return Events(total=page.total, truncated=page.truncated, limit=page.limit, events=_events(page.events))


@router.get(
    "/api/v0/executions/<reference>/status-events/",
    operation_id="listStatusEvents",
    tags=["executions"],
    summary="The log's status lines",
)
def list_status_events(call: Person, reference: str, limit: Last = None) -> StatusEvents:
    found = _execution(call, reference)
    page = browse.read_status_events(call.principal, found.id, limit, world=call.world)
    return StatusEvents(
        total=page.total, truncated=page.truncated, limit=page.limit, status_events=_events(page.events)
    )


@router.get(
    "/api/v0/executions/<reference>/metadata/",
    operation_id="listMetadata",
    tags=["executions"],
    summary="Every metadata point, oldest first",
)
def list_metadata(call: Person, reference: str) -> list[dict[str, Any]]:
    found = _execution(call, reference)
    return browse.read_metadata(call.principal, found.id, world=call.world)


@router.get(
    "/api/v0/executions/<reference>/outputs/", operation_id="listOutputs", tags=["executions"], summary="Its files"
)
def list_outputs(call: Person, reference: str, limit: Limit = 0, offset: Offset = 0) -> Page[show_data.DatumShape]:
    found = attempts.outputs_of(_execution(call, reference), world=call.world)
    return page_of(call, found, lambda datum: show_data.datum(call, datum), limit=limit, offset=offset)


@router.post(
    "/api/v0/executions/<reference>/tags/", operation_id="setTags", tags=["executions"], summary="Replace the tags"
)
def set_tags(call: Person, reference: str, wanted: Annotated[Tags, Body()]) -> TagsShown:
    found = _execution(call, reference)
    changed = change_execution.set_tags(call.principal, found.id, wanted.tags, world=call.world)
    return TagsShown(tags=list(changed.tags))


@router.get(
    "/api/v0/executions/<reference>/explain/",
    operation_id="explainExecution",
    tags=["executions"],
    summary="Why it waits, and what would unblock it",
)
def explain_execution(call: Person, reference: str) -> Explanation:
    found = _execution(call, reference)
    explanation = explain.explain(call.principal, found.id, world=call.world)
    reasons = [
        Reason(code=r.code, text=r.text, numbers=dict(r.numbers), unblock=r.unblock) for r in explanation.reasons
    ]
    return Explanation(status=explanation.status, reasons=reasons)


def _execution(call: Person, reference: str) -> Execution:
    return browse.get_execution(call.principal, reference, world=call.world)


def _events(lines: Iterable[tuple[str, str, str]]) -> list[Event]:
    return [Event(stream=stream, time=time, message=message) for time, stream, message in lines]
