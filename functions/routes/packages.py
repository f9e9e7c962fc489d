"""Ad-hoc code: a project's files, uploaded as one archive."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Body
from pydantic import PlainValidator

from functions.callers import Call, PersonCall
from functions.parcels import Parcel
from functions.presentation import commits as show
from functions.routes.base import IMPORT_PACKAGE, new_router
from functions.routes.callers import Person
from lamplighter.errors import Invalid
from lamplighter.usecases import commits, projects
from lamplighter.usecases.commits import Package

router = new_router()


def need_project(call: Call, project_id: str) -> None:
    """Before an archive is taken: raises `NotFound` unless the caller may see the project."""
    if isinstance(call, PersonCall):
        projects.get_project(call.principal, project_id, world=call.world)


def _arrived(value: Any) -> Parcel:
    if not isinstance(value, Parcel):
        raise Invalid.because("Send the archive as multipart/form-data.")
    return value


@router.post(
    "/api/v0/projects/<project_id>/import-package/",
    status_code=201,
    operation_id=IMPORT_PACKAGE,
    tags=["commits"],
    summary="Upload code; its identifier is ~ and the SHA-256 of the archive",
)
def import_package(
    call: Person, project_id: str, parcel: Annotated[Any, PlainValidator(_arrived), Body()]
) -> show.CommitShape:
    path = parcel.path
    made = commits.import_package(
        call.principal,
        project_id,
        Package(lambda: path.open("rb"), parcel.sha256, parcel.size),
        description=parcel.texts.get("description", ""),
        yaml_path=parcel.texts.get("yaml_path") or "valohai.yaml",
        world=call.world,
    )
    return show.commit(call, made)
