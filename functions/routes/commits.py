"""Commits, of one project or of all."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from functions.presentation import commits as show
from functions.presentation.common import MAX_LIMIT, Limit, Offset, Page, page_of
from functions.routes.base import new_router
from functions.routes.callers import Person
from lamplighter.usecases import commits

router = new_router()

ProjectId = Annotated[str | None, Query(description="Only what belongs to this project.")]


@router.get("/api/v0/commits/", operation_id="listCommits", tags=["commits"], summary="Commits, newest first")
def list_commits(
    call: Person,
    project: ProjectId = None,
    adhoc: bool | None = None,
    ordering: str = "-commit_time",
    limit: Limit = 0,
    offset: Offset = 0,
) -> Page[show.CommitShape]:
    found = commits.list_commits(call.principal, project, adhoc=adhoc, limit=MAX_LIMIT, world=call.world)
    if ordering == "commit_time":
        found = found[::-1]
    return page_of(call, found, lambda value: show.commit(call, value), limit=limit, offset=offset)


@router.get("/api/v0/commits/<identifier>/", operation_id="getCommit", tags=["commits"], summary="One commit")
def get_commit(call: Person, identifier: str, project: ProjectId = None, include: str = "") -> show.CommitDetail:
    found = commits.get_commit(call.principal, identifier, project, world=call.world)
    with_config = "config" in [name.strip() for name in include.split(",")]
    return show.commit_detail(call, found, with_config=with_config)
