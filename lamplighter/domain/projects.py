"""Organisations, people, projects and the commits they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Organisation:
    """The wall between tenants: nothing crosses it."""

    id: str
    name: str
    ctime: datetime


@dataclass(frozen=True, slots=True)
class User:
    """A person. `role` is "admin" or "member" of the organisation. `password` is a salted scrypt hash, or empty for none."""

    id: str
    organisation_id: str
    username: str
    role: str
    ctime: datetime
    email: str = ""
    password: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer of a user's rights, kept only as the SHA-256 of its text. `hint` is its visible beginning."""

    sha256: str
    user_id: str
    name: str
    hint: str
    ctime: datetime
    expires_at: datetime | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, as proven by a token."""

    user_id: str
    username: str
    organisation_id: str
    role: str
    email: str = ""

    @property
    def admin(self) -> bool:
        """May change environments, users and other people's things."""
        return self.role == "admin"


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable of a project. A secret's value is not here but in the secrets, under `secret_name`."""

    value: str | None
    secret: bool = False
    secret_name: str = ""


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a project's code comes from."""

    url: str
    ref: str = "main"


@dataclass(frozen=True, slots=True)
class Project:
    """A shelf for commits, executions and data of one piece of work."""

    id: str
    organisation_id: str
    name: str
    owner_id: str
    owner_name: str
    ctime: datetime
    mtime: datetime
    description: str = ""
    yaml_path: str = "valohai.yaml"
    repository: Repository | None = None
    default_environment: str | None = None
    default_store: str | None = None
    tags: tuple[str, ...] = ()
    environment_variables: Mapping[str, Variable] = field(default_factory=dict)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """A version of a project's code, with its parsed `valohai.yaml`.

    `identifier` is a 40-hex git sha, or `~` and the SHA-256 of an uploaded archive. `config_error` says why there is no `config`.
    `archive_store` is the store that holds the archive under `archive_key`; empty means the default one.
    """

    identifier: str
    project_id: str
    organisation_id: str
    adhoc: bool
    ref: str
    commit_time: datetime
    ctime: datetime
    archive_key: str
    archive_sha256: str
    archive_size: int
    description: str = ""
    yaml_path: str = "valohai.yaml"
    config: tuple[Any, ...] = ()
    config_error: str = ""
    creator_name: str = ""
    archive_store: str = ""
