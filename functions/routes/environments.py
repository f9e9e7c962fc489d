"""Environments: the kinds of machine on offer."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Body
from pydantic import BaseModel, ConfigDict

from functions.presentation import environments as show
from functions.presentation.common import Limit, Offset, Page, page_of
from functions.routes.base import new_router
from functions.routes.callers import Person
from lamplighter.usecases import environments

router = new_router()


class EnvironmentFields(BaseModel):
    """Fields of an environment. Seconds, counts, MiB; the price is USD per hour. `options` belong to its cloud."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    description: str | None = None
    enabled: bool | None = None
    options: dict[str, Any] | None = None
    max_machines: int | None = None
    idle_seconds: int | None = None
    boot_seconds: int | None = None
    lease_seconds: int | None = None
    cpus: float | None = None
    memory_mib: int | None = None
    gpu_spec: str | None = None
    spot: bool | None = None
    per_hour_price_usd: str | None = None
    per_user_queue_quota: int | None = None


class NewEnvironment(EnvironmentFields):
    """An environment to make."""

    slug: str
    cloud: str


@router.get(
    "/api/v0/environments/", operation_id="listEnvironments", tags=["environments"], summary="Where steps may run"
)
def list_environments(
    call: Person, include: str = "", limit: Limit = 0, offset: Offset = 0
) -> Page[show.EnvironmentShape]:
    found = environments.list_environments(call.principal, world=call.world)
    counts: dict[str, int] = {}
    if "unfinished_job_count" in include:
        counts = environments.unfinished_counts([e.id for e in found], world=call.world)
    return page_of(call, found, lambda e: show.environment(e, counts.get(e.id, 0)), limit=limit, offset=offset)


@router.post(
    "/api/v0/environments/",
    status_code=201,
    operation_id="createEnvironment",
    tags=["environments"],
    summary="Offer another kind of machine (administrators)",
)
def create_environment(call: Person, wanted: Annotated[NewEnvironment, Body()]) -> show.EnvironmentShape:
    fields = wanted.model_dump(exclude_unset=True)
    return show.environment(environments.create_environment(call.principal, fields, world=call.world))


@router.get(
    "/api/v0/environments/<environment>/", operation_id="getEnvironment", tags=["environments"], summary="By id or slug"
)
def get_environment(call: Person, environment: str) -> show.EnvironmentShape:
    found = environments.get_environment(call.principal, environment, world=call.world)
    counts = environments.unfinished_counts([found.id], world=call.world)
    return show.environment(found, counts[found.id])


@router.patch(
    "/api/v0/environments/<environment>/",
    operation_id="updateEnvironment",
    tags=["environments"],
    summary="Change limits, options, price (administrators)",
)
def update_environment(
    call: Person, environment: str, changes: Annotated[EnvironmentFields, Body()]
) -> show.EnvironmentShape:
    fields = changes.model_dump(exclude_unset=True)
    return show.environment(environments.update_environment(call.principal, environment, fields, world=call.world))
