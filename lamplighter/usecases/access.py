"""Who may do what: everything is denied that is not allowed here.

What belongs to another organisation looks exactly like what does not exist.
"""

from __future__ import annotations

import re

from lamplighter import keys
from lamplighter.domain.data import Datum
from lamplighter.domain.projects import Principal, Project
from lamplighter.errors import Forbidden, NotFound
from lamplighter.records import Stored, find, find_many, walk
from lamplighter.world import World

SERVER = "lamplighter"
"""Who acts, in the audit, when the server's own command line or a background task does."""

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def actor(principal: Principal | None) -> str:
    """How the audit names the caller."""
    return principal.username if principal else SERVER


def need_admin(principal: Principal | None, action: str) -> None:
    """Raises `Forbidden` unless the caller runs the organisation. None is the server's own command line, which may."""
    if principal and not principal.admin:
        raise Forbidden(f"{principal.username} may not {action}: ask an administrator of the organisation.")


def organisation_of(principal: Principal | None, *, world: World) -> str:
    """The caller's organisation; for the server's own command line the only one. Raises `NotFound` before `initialise`."""
    if principal:
        return principal.organisation_id
    row = world.metadata.get(keys.INSTALLATION)
    if not row:
        raise NotFound("this installation has no organisation yet: initialise it first")
    return str(row.value["organisation_id"])


def need_id(text: str, what: str) -> str:
    """The text if it can be an id at all, so that nothing odd becomes part of a key. Raises `NotFound`."""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise NotFound(f"this {what} does not exist")
    return text


def need_project(principal: Principal, project_id: str, *, world: World) -> Stored[Project]:
    """A project of the caller's organisation that is not deleted. Raises `NotFound`."""
    found = find(world.metadata, Project, keys.project(need_id(project_id, "project")))
    if not found or found.value.deleted or found.value.organisation_id != principal.organisation_id:
        raise NotFound(f"project {project_id} does not exist")
    return found


def readable_projects(principal: Principal, *, world: World) -> list[Project]:
    """Every project that the caller may read, oldest first."""
    rows = walk(world.metadata, keys.project_in(principal.organisation_id, "-").partition)
    found = find_many(world.metadata, Project, [keys.project(row.key.sort) for row in rows])
    return [f.value for f in found if not f.value.deleted and f.value.organisation_id == principal.organisation_id]


def need_datum(principal: Principal, datum_id: str, *, world: World) -> Stored[Datum]:
    """A visible datum of the caller's organisation, purged ones included. Raises `NotFound`."""
    found = find(world.metadata, Datum, keys.datum(need_id(datum_id, "datum")))
    if not found or not found.value.visible or found.value.organisation_id != principal.organisation_id:
        raise NotFound(f"datum {datum_id} does not exist")
    return found
