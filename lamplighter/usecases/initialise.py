"""The first start of an installation: its organisation, its administrator and its first environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lamplighter import keys
from lamplighter.domain.projects import Organisation, User
from lamplighter.errors import Invalid
from lamplighter.intents import record
from lamplighter.records import again_on_conflict, need, new
from lamplighter.usecases import credentials
from lamplighter.usecases.access import SERVER
from lamplighter.usecases.environments import checked_environment, rows_of_new_environment
from lamplighter.usecases.installation import InstallationRow, read_installation
from lamplighter.usecases.people import MAX_PASSWORD, rows_of_new_user
from lamplighter.world import World

ADMIN = "admin"
ORGANISATION = "default"


@dataclass(frozen=True, slots=True)
class Initialised:
    """What is there now. `generated_password` is only known to the call that made it up; `created` tells that call."""

    organisation_id: str
    admin_user_id: str
    generated_password: str | None
    created: bool


@again_on_conflict
def initialise(*, admin_password: str | None, environment: Mapping[str, Any] | None, world: World) -> Initialised:
    """Make the organisation "default", the user "admin" and the first environment if one is given, all at once or not at all.

    `environment` holds fields of `Environment` as for `create_environment`. Called again it changes nothing, except that an
    `admin_password` which is not the administrator's becomes it. Raises `Invalid`.
    """
    if admin_password is not None and not 0 < len(admin_password) <= MAX_PASSWORD:
        raise Invalid({"admin_password": [f"The administrator's password has 1 to {MAX_PASSWORD} characters."]})
    existing = read_installation(world.metadata)
    if existing:
        if admin_password is not None:
            _keep_password(existing, admin_password, world)
        return Initialised(existing.organisation_id, existing.admin_user_id, None, False)
    return _create(admin_password, environment, world)


def _create(admin_password: str | None, environment: Mapping[str, Any] | None, world: World) -> Initialised:
    password = admin_password if admin_password is not None else credentials.new_password()
    organisation = Organisation(world.new_id(), ORGANISATION, world.now())
    admin = User(
        id=world.new_id(),
        organisation_id=organisation.id,
        username=ADMIN,
        role="admin",
        ctime=world.now(),
        password=credentials.hash_password(password),
    )
    first = checked_environment(environment, organisation.id, world=world) if environment is not None else None
    installation = InstallationRow(world.installation.id, world.installation.generation, organisation.id, admin.id)
    world.metadata.transact(
        [
            new(keys.INSTALLATION, installation),
            new(keys.organisation(organisation.id), organisation),
            *rows_of_new_user(admin),
            *(rows_of_new_environment(first) if first else ()),
            record(world, organisation.id, SERVER, "installation.initialise", installation.id),
        ]
    )
    return Initialised(organisation.id, admin.id, None if admin_password is not None else password, True)


def _keep_password(existing: InstallationRow, password: str, world: World) -> None:
    stored = need(world.metadata, User, keys.user(existing.admin_user_id), "the administrator")
    if credentials.password_fits(password, stored.value.password):
        return
    changed = replace(stored.value, password=credentials.hash_password(password))
    trace = record(world, existing.organisation_id, SERVER, "user.password", changed.id)
    world.metadata.transact([stored.becomes(changed), trace])
