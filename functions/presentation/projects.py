"""Projects and repositories, as clients read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from functions.callers import Call
from functions.presentation.common import Person, Shape, Urls, time
from lamplighter.domain.projects import Project


class VariableShape(Shape):
    """An environment variable. The value of a secret is never told."""

    value: str | None
    secret: bool


class RepositoryOfProject(Shape):
    """Where the code comes from."""

    url: str
    ref: str


class ProjectUrls(Urls):
    """Where people look at the project and its settings."""

    display_repository: str


class ProjectShape(Shape):
    """A project in a list."""

    id: str
    name: str
    description: str
    owner: Person
    yaml_path: str
    read_only: bool
    tags: list[str]
    ctime: str
    mtime: str
    default_environment: str | None
    default_store: str | None
    upload_store_id: str | None
    repository: RepositoryOfProject | None
    url: str
    urls: ProjectUrls


class ProjectDetail(ProjectShape):
    """A project with what its executions read and how many there are."""

    environment_variables: dict[str, VariableShape]
    execution_summary: dict[str, int]


class ProjectInShort(Shape):
    """The project that another thing belongs to."""

    id: str
    name: str
    owner: Person
    url: str
    urls: Urls


class RepositoryShape(Shape):
    """A repository in a list. Each project has at most one, so it goes by the project's id."""

    id: str
    url: str
    ref: str
    project: ProjectInShort


def project(call: Call, value: Project) -> ProjectShape:
    """A row of a list."""
    return ProjectShape(**_common(call, value))


def project_detail(call: Call, value: Project, summary: Mapping[str, int]) -> ProjectDetail:
    """The whole project."""
    variables = {
        name: VariableShape(value=None if v.secret else v.value, secret=v.secret)
        for name, v in sorted(value.environment_variables.items())
    }
    return ProjectDetail(**_common(call, value), environment_variables=variables, execution_summary=dict(summary))


def project_in_short(call: Call, value: Project) -> ProjectInShort:
    """The project as a part of something else."""
    return ProjectInShort(
        id=value.id,
        name=value.name,
        owner=Person(id=value.owner_id, username=value.owner_name),
        url=project_url(call, value.id),
        urls=Urls(display=display_url(call, value)),
    )


def repository(call: Call, value: Project) -> RepositoryShape:
    """The repository of a project that has one."""
    found = value.repository
    return RepositoryShape(
        id=value.id,
        url=found.url if found else "",
        ref=found.ref if found else "",
        project=project_in_short(call, value),
    )


def project_url(call: Call, project_id: str) -> str:
    """The project in the API."""
    return call.url(f"/api/v0/projects/{project_id}/")


def display_url(call: Call, value: Project) -> str:
    """The project in a browser."""
    return call.url(f"/p/{quote(value.owner_name, safe='')}/{quote(value.name, safe='')}/")


def _common(call: Call, value: Project) -> dict[str, Any]:
    display = display_url(call, value)
    at = value.repository
    return {
        "id": value.id,
        "name": value.name,
        "description": value.description,
        "owner": Person(id=value.owner_id, username=value.owner_name),
        "yaml_path": value.yaml_path,
        "read_only": False,
        "tags": list(value.tags),
        "ctime": time(value.ctime),
        "mtime": time(value.mtime),
        "default_environment": value.default_environment,
        "default_store": value.default_store,
        "upload_store_id": None,
        "repository": RepositoryOfProject(url=at.url, ref=at.ref) if at else None,
        "url": project_url(call, value.id),
        "urls": ProjectUrls(display=display, display_repository=f"{display}settings/repository/"),
    }
