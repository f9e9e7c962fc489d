"""Commits, as clients read them."""

from __future__ import annotations

from typing import Any

from functions.callers import Call
from functions.presentation.common import Shape, time
from lamplighter.domain.projects import Commit


class CommitRow(Shape):
    """A commit as a row of a table: every key becomes a column of `vh project commits`."""

    identifier: str
    ref: str
    commit_time: str
    description: str
    adhoc: bool


class CommitShape(CommitRow):
    """A commit. `repository` is the id of its project's repository."""

    ref_names: list[str]
    project_id: str
    repository: str | None
    yaml_path: str
    has_config: bool
    config_error: str
    creator_name: str
    url: str


class CommitDetail(CommitShape):
    """A commit with its parsed `valohai.yaml`, if that was asked for with `include=config`."""

    config: list[Any] | None


def commit_row(value: Commit) -> CommitRow:
    """One flat row."""
    return CommitRow(
        identifier=value.identifier,
        ref=value.ref,
        commit_time=time(value.commit_time),
        description=value.description,
        adhoc=value.adhoc,
    )


def commit(call: Call, value: Commit) -> CommitShape:
    """A row of the list of commits."""
    return CommitShape(**_common(call, value))


def commit_detail(call: Call, value: Commit, *, with_config: bool) -> CommitDetail:
    """The whole commit."""
    return CommitDetail(**_common(call, value), config=list(value.config) if with_config else None)


def _common(call: Call, value: Commit) -> dict[str, Any]:
    return {
        "identifier": value.identifier,
        "ref": value.ref,
        "ref_names": [value.ref] if value.ref else [],
        "adhoc": value.adhoc,
        "commit_time": time(value.commit_time),
        "description": value.description,
        "project_id": value.project_id,
        "repository": None if value.adhoc else value.project_id,
        "yaml_path": value.yaml_path,
        "has_config": bool(value.config),
        "config_error": value.config_error,
        "creator_name": value.creator_name,
        "url": call.url(f"/api/v0/commits/{value.identifier}/?project={value.project_id}"),
    }
