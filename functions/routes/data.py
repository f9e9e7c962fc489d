"""Data and the aliases that point at them."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from pydantic import BaseModel, Field

from functions.presentation import data as show
from functions.presentation.common import Limit, Offset, Page, Shape, page, page_of, rows
from functions.routes.base import new_router
from functions.routes.callers import Person
from lamplighter.usecases import aliases, data

router = new_router()


class Download(Shape):
    """Where to GET the bytes, without our token, for some minutes."""

    url: str


class Resolved(Shape):
    """The datum that a name stands for."""

    datum: show.DatumShape


class ManyMetadata(BaseModel):
    """Metadata by the id of the datum it belongs to."""

    datum_metadata: dict[str, dict[str, Any]] = Field(max_length=10_000)


class Applied(Shape):
    """How many data were given metadata."""

    applied: int


class NewAlias(BaseModel):
    """A name, and the datum that it shall point at."""

    project: str
    name: str
    datum: str


@router.get("/api/v0/data/", operation_id="listData", tags=["data"], summary="Find data")
def list_data(
    call: Person,
    project: str | None = None,
    output_execution: str | None = None,
    tag: str | None = None,
    name: str | None = None,
    ordering: str = "-ctime",
    limit: Limit = 0,
    offset: Offset = 0,
) -> Page[show.DatumShape]:
    found, count = data.list_data(
        call.principal,
        project_id=project,
        execution_id=output_execution,
        tag=tag,
        name=name,
        newest_first=ordering.startswith("-"),
        limit=rows(limit),
        offset=offset,
        world=call.world,
    )
    return page(call, [show.datum(call, datum) for datum in found], count, limit=limit, offset=offset)


@router.get("/api/v0/data/<datum_id>/", operation_id="getDatum", tags=["data"], summary="One datum")
def get_datum(call: Person, datum_id: str) -> show.DatumShape:
    return show.datum(call, data.get_datum(call.principal, datum_id, world=call.world))


@router.get(
    "/api/v0/data/<datum_id>/download/", operation_id="downloadDatum", tags=["data"], summary="Where to get the bytes"
)
def download_datum(call: Person, datum_id: str) -> Download:
    _, target = data.download_target(call.principal, datum_id, world=call.world)
    return Download(url=call.reachable(target.url))


@router.post(
    "/api/v0/data/<datum_id>/purge/", operation_id="purgeDatum", tags=["data"], summary="Delete the bytes for ever"
)
def purge_datum(call: Person, datum_id: str) -> show.DatumShape:
    return show.datum(call, data.purge_datum(call.principal, datum_id, world=call.world))


@router.post(
    "/api/v0/data/<datum_id>/metadata/", operation_id="addDatumMetadata", tags=["data"], summary="Add metadata to one"
)
def add_metadata(call: Person, datum_id: str, metadata: Annotated[dict[str, Any], Body()]) -> show.DatumShape:
    return show.datum(call, data.add_metadata(call.principal, datum_id, metadata, world=call.world))


@router.post(
    "/api/v0/data/metadata/apply/", operation_id="applyDatumMetadata", tags=["data"], summary="Add metadata to many"
)
def apply_metadata(call: Person, wanted: Annotated[ManyMetadata, Body()]) -> Applied:
    changed = data.apply_metadata(call.principal, wanted.datum_metadata, world=call.world)
    return Applied(applied=len(changed))


@router.get("/api/v0/datum-aliases/", operation_id="listAliases", tags=["data"], summary="Names for data")
def list_aliases(
    call: Person, project: str | None = None, limit: Limit = 0, offset: Offset = 0
) -> Page[show.AliasShape]:
    found = aliases.list_aliases(call.principal, project, world=call.world)
    return page_of(call, found, lambda found: show.alias(*found), limit=limit, offset=offset)


@router.post("/api/v0/datum-aliases/", operation_id="setAlias", tags=["data"], summary="Point a name at a datum")
def set_alias(call: Person, wanted: Annotated[NewAlias, Body()]) -> show.AliasShape:
    made = aliases.set_alias(call.principal, wanted.project, wanted.name, wanted.datum, world=call.world)
    return show.alias(made, data.get_datum(call.principal, wanted.datum, world=call.world))


@router.get("/api/v0/datum-aliases/resolve/", operation_id="resolveAlias", tags=["data"], summary="What a name means")
def resolve_alias(call: Person, name: Annotated[str, Query()], project: Annotated[str, Query()]) -> Resolved:
    return Resolved(datum=show.datum(call, aliases.resolve_alias(call.principal, project, name, world=call.world)))
