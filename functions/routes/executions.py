"""Executions: run a step, find runs, stop and delete them."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body, Header, Query
from pydantic import BaseModel, Field

from functions.presentation import executions as show
from functions.presentation.common import Limit, Offset, Page, page, rows
from functions.routes.base import new_router
from functions.routes.callers import Person
from lamplighter.domain.executions import Execution
from lamplighter.usecases import (
    attempts,
    browse,
    change_execution,
    explain,
    stop_execution,
    submit_execution,
    submit_notebook,
)
from lamplighter.usecases.browse import ExecutionFilter
from lamplighter.usecases.check_order import SubmitExecution

router = new_router()

Reference = str
"""An execution's id, `<project>:<counter>`, or `<project>:latest`."""


class NewExecution(BaseModel):
    """A run to make. What is left out, or null, comes from the commit's `valohai.yaml`. The limit is seconds."""

    project: str
    commit: str
    step: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, list[str] | str | None] = Field(default_factory=dict)
    environment: str | None = None
    image: str | None = None
    title: str | None = ""
    command: list[str] | str | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)
    inherit_environment_variables: bool = True
    environment_variable_groups: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    runtime_config: dict[str, Any] = Field(default_factory=dict)
    priority: int | None = None
    time_limit: int | None = None
    stop_expression: str | None = None
    autorestart: bool | None = None


class NewNotebook(BaseModel):
    """A notebook server to run. `environment` may be PROJECT_DEFAULT."""

    project: str
    image: str
    environment: str | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)


@router.get("/api/v0/executions/", operation_id="listExecutions", tags=["executions"], summary="Find executions")
def list_executions(
    call: Person,
    project: str | None = None,
    status: Annotated[
        list[str] | None, Query(description='Repeatable; "incomplete" means all that have not ended.')
    ] = None,
    counter: Annotated[list[int] | None, Query(description="Repeatable.")] = None,
    creator: str | None = None,
    deleted: bool | None = False,
    step: str | None = None,
    ordering: str = "-counter",
    limit: Limit = 0,
    offset: Offset = 0,
) -> Page[show.ExecutionShape]:
    wanted = ExecutionFilter(
        project_id=project,
        statuses=tuple(status or ()),
        counters=tuple(counter or ()),
        creator=creator,
        deleted=deleted,
        step=step,
        newest_first=ordering.startswith("-"),
        limit=rows(limit),
        offset=offset,
    )
    found, count = browse.list_executions(call.principal, wanted, world=call.world)
    shelf = show.Shelf(call)
    return page(call, [show.execution(call, e, shelf) for e in found], count, limit=limit, offset=offset)


@router.post(
    "/api/v0/executions/", status_code=201, operation_id="createExecution", tags=["executions"], summary="Run a step"
)
def create_execution(
    call: Person,
    wanted: Annotated[NewExecution, Body()],
    idempotency_key: Annotated[str | None, Header(alias="idempotency-key", min_length=1, max_length=200)] = None,
) -> show.ExecutionDetail:
    made = submit_execution.submit_execution(
        call.principal, _order(wanted), idempotency_key=idempotency_key, world=call.world
    )
    return _detail(call, made)


@router.post(
    "/api/v0/notebook-executions/",
    status_code=201,
    operation_id="createNotebook",
    tags=["executions"],
    summary="Run a notebook server",
)
def create_notebook(call: Person, wanted: Annotated[NewNotebook, Body()]) -> show.ExecutionDetail:
    made = submit_notebook.submit_notebook(
        call.principal,
        wanted.project,
        environment=wanted.environment,
        image=wanted.image,
        environment_variables=wanted.environment_variables,
        world=call.world,
    )
    return _detail(call, made)


@router.get(
    "/api/v0/executions/<reference>/", operation_id="getExecution", tags=["executions"], summary="One execution"
)
def get_execution(call: Person, reference: Reference) -> show.ExecutionDetail:
    return _detail(call, browse.get_execution(call.principal, reference, world=call.world))


@router.delete(
    "/api/v0/executions/<reference>/",
    status_code=204,
    operation_id="deleteExecution",
    tags=["executions"],
    summary="Hide an execution, stopping it first",
)
def delete_execution(call: Person, reference: Reference) -> None:
    found = browse.get_execution(call.principal, reference, world=call.world)
    change_execution.delete_execution(call.principal, found.id, world=call.world)


@router.post(
    "/api/v0/executions/<reference>/stop/",
    operation_id="stopExecution",
    tags=["executions"],
    summary="End an execution; the answer is a sentence for people",
)
def stop(call: Person, reference: Reference) -> Response[str]:
    found = browse.get_execution(call.principal, reference, world=call.world)
    text = stop_execution.stop_execution(call.principal, found.id, world=call.world)
    return Response(200, "text/plain; charset=utf-8", text)


def _order(wanted: NewExecution) -> SubmitExecution:
    return SubmitExecution(
        project_id=wanted.project,
        commit=wanted.commit,
        step=wanted.step,
        parameters=wanted.parameters,
        inputs={name: urls for name, urls in wanted.inputs.items() if urls is not None},
        environment=wanted.environment,
        image=wanted.image,
        title=wanted.title or "",
        command=wanted.command,
        environment_variables=wanted.environment_variables,
        inherit_environment_variables=wanted.inherit_environment_variables,
        environment_variable_groups=tuple(wanted.environment_variable_groups),
        tags=tuple(wanted.tags),
        runtime_config=wanted.runtime_config,
        priority=wanted.priority or 0,
        time_limit=wanted.time_limit,
        stop_expression=wanted.stop_expression,
        autorestart=wanted.autorestart,
    )


def _detail(call: Person, found: Execution) -> show.ExecutionDetail:
    shown = explain.explained(found, world=call.world)
    inputs = attempts.inputs_of(found, world=call.world)
    return show.execution_detail(call, shown, inputs, attempts.outputs_of(found, world=call.world))
