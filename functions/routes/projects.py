"""Projects with their variables and their repository."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Body
from pydantic import BaseModel, Field

from functions.presentation import projects as show
from functions.presentation.commits import CommitRow, commit_row
from functions.presentation.common import Limit, Offset, Page, Shape, page_of, rows
from functions.routes.base import new_router
from functions.routes.callers import Person
from lamplighter.usecases import commits, projects

router = new_router()

OWN = "default"
"""The one owner that a project can have here: the organisation of whoever makes it."""


class RepositoryWish(BaseModel):
    """Where the code shall come from."""

    url: str
    ref: str = "main"


class NewProject(BaseModel):
    """A project to make. `owner` is accepted for clients that send one."""

    name: str
    description: str = ""
    owner: str | None = None
    repository: RepositoryWish | None = None


class ProjectChanges(BaseModel):
    """What shall be different; null clears a field."""

    name: str | None = None
    description: str | None = None
    yaml_path: str | None = None
    repository: RepositoryWish | None = None
    default_environment: str | None = None
    default_store: str | None = None
    tags: list[str] | None = None


class NewVariable(BaseModel):
    """An environment variable for later executions."""

    name: str
    value: str
    secret: bool = False


class VariableName(BaseModel):
    """The variable to take away."""

    name: str


class FetchedCommit(Shape):
    """What a ref points at."""

    ref: str
    identifier: str


class Fetched(Shape):
    """What a fetch has found, and what went wrong with it."""

    commits: list[FetchedCommit]
    errors: list[str] = Field(description="Explanations for people; empty when all went well.")


@router.get("/api/v0/projects/", operation_id="listProjects", tags=["projects"], summary="The projects one may read")
def list_projects(call: Person, limit: Limit = 0, offset: Offset = 0) -> Page[show.ProjectShape]:
    found = projects.list_projects(call.principal, world=call.world)
    return page_of(call, found, lambda value: show.project(call, value), limit=limit, offset=offset)


@router.post(
    "/api/v0/projects/", status_code=201, operation_id="createProject", tags=["projects"], summary="Make a project"
)
def create_project(call: Person, wanted: Annotated[NewProject, Body()]) -> show.ProjectDetail:
    repository = wanted.repository.model_dump() if wanted.repository else None
    made = projects.create_project(
        call.principal, wanted.name, description=wanted.description, repository=repository, world=call.world
    )
    return _detail(call, made.id)


@router.get(
    "/api/v0/projects/ownership_options/",
    operation_id="listOwnershipOptions",
    tags=["projects"],
    summary="Who may own a project",
)
def list_ownership_options(call: Person) -> list[str]:  # noqa: ARG001
    return [OWN]


@router.get("/api/v0/projects/<project_id>/", operation_id="getProject", tags=["projects"], summary="One project")
def get_project(call: Person, project_id: str) -> show.ProjectDetail:
    return _detail(call, project_id)


@router.put("/api/v0/projects/<project_id>/", operation_id="putProject", tags=["projects"], summary="Change a project")
def put_project(call: Person, project_id: str, changes: Annotated[ProjectChanges, Body()]) -> show.ProjectDetail:
    return _change(call, project_id, changes)


@router.patch(
    "/api/v0/projects/<project_id>/", operation_id="updateProject", tags=["projects"], summary="Change a project"
)
def update_project(call: Person, project_id: str, changes: Annotated[ProjectChanges, Body()]) -> show.ProjectDetail:
    return _change(call, project_id, changes)


@router.delete(
    "/api/v0/projects/<project_id>/",
    status_code=204,
    operation_id="deleteProject",
    tags=["projects"],
    summary="Hide a project for ever",
)
def delete_project(call: Person, project_id: str) -> None:
    projects.delete_project(call.principal, project_id, world=call.world)


@router.post(
    "/api/v0/projects/<project_id>/fetch/",
    operation_id="fetchProject",
    tags=["projects"],
    summary="Bring the newest commit from the project's repository",
)
def fetch_project(call: Person, project_id: str) -> Fetched:
    result = commits.fetch_repository(call.principal, project_id, world=call.world)
    found = [FetchedCommit(ref=ref, identifier=identifier) for ref, identifier in result.commits]
    return Fetched(commits=found, errors=result.errors)


@router.get(
    "/api/v0/projects/<project_id>/commits/",
    operation_id="listProjectCommits",
    tags=["commits"],
    summary="A project's commits as a bare list of flat rows",
)
def list_project_commits(call: Person, project_id: str, limit: Limit = 0) -> list[CommitRow]:
    found = commits.list_commits(call.principal, project_id, adhoc=None, limit=rows(limit), world=call.world)
    return [commit_row(value) for value in found]


@router.post(
    "/api/v0/projects/<project_id>/environment_variable/",
    operation_id="setVariable",
    tags=["projects"],
    summary="Give later executions a variable",
)
def set_variable(call: Person, project_id: str, wanted: Annotated[NewVariable, Body()]) -> show.ProjectDetail:
    projects.set_variable(call.principal, project_id, wanted.name, wanted.value, wanted.secret, world=call.world)
    return _detail(call, project_id)


@router.delete(
    "/api/v0/projects/<project_id>/environment_variable/",
    operation_id="deleteVariable",
    tags=["projects"],
    summary="Take a variable away",
)
def delete_variable(call: Person, project_id: str, unwanted: Annotated[VariableName, Body()]) -> show.ProjectDetail:
    projects.delete_variable(call.principal, project_id, unwanted.name, world=call.world)
    return _detail(call, project_id)


@router.get(
    "/api/v0/repositories/", operation_id="listRepositories", tags=["projects"], summary="Projects with a repository"
)
def list_repositories(call: Person, limit: Limit = 0, offset: Offset = 0) -> Page[show.RepositoryShape]:
    found = [p for p in projects.list_projects(call.principal, world=call.world) if p.repository]
    return page_of(call, found, lambda value: show.repository(call, value), limit=limit, offset=offset)


def _change(call: Person, project_id: str, changes: ProjectChanges) -> show.ProjectDetail:
    wanted: dict[str, Any] = changes.model_dump(exclude_unset=True)
    projects.update_project(call.principal, project_id, wanted, world=call.world)
    return _detail(call, project_id)


def _detail(call: Person, project_id: str) -> show.ProjectDetail:
    found = projects.get_project(call.principal, project_id, world=call.world)
    return show.project_detail(call, found, projects.execution_summary(project_id, world=call.world))
