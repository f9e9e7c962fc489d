"""Credentials for private image registries: kept as secrets, handed out with a lease, never shown."""

from __future__ import annotations

import re

from lamplighter import keys
from lamplighter.contract.job import RegistryLogin
from lamplighter.contract.wire import encode
from lamplighter.domain.registries import Registry, registry_of
from lamplighter.errors import Invalid, NotFound
from lamplighter.intents import record
from lamplighter.ports import ABSENT, Put
from lamplighter.records import again_on_conflict, find, need, walk
from lamplighter.usecases import bounds
from lamplighter.usecases.access import SERVER
from lamplighter.world import World

_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(:[0-9]{1,5})?")
MAX_PASSWORD = 16 * 1024


@again_on_conflict
def set_registry(organisation_id: str, address: str, username: str, password: str, *, world: World) -> Registry:
    """Pull images of this registry with these credentials from now on. Repeatable; later credentials replace earlier ones."""
    if not _ADDRESS.fullmatch(address):
        raise Invalid({"address": [f'"{address[:100]}" is not a registry: give host or host:port, e.g. ghcr.io.']})
    if not 0 < len(password) <= MAX_PASSWORD:
        raise Invalid({"password": [f"A password or token of 1 to {MAX_PASSWORD} characters is needed."]})
    name = bounds.line("username", username, most=bounds.NAME, least=1)
    where = address.lower()
    secret_name = f"registry/{organisation_id}/{where.replace(':', '/')}"  # a secret's name holds no colon
    registry = Registry(where, organisation_id, name, secret_name)
    # The secret comes first: a row never names a secret that is not there.
    world.secrets.put(registry.secret_name, password)
    key = keys.registry(organisation_id, where)
    known = world.metadata.get(key)
    trace = record(world, organisation_id, SERVER, "registry.set", where)
    world.metadata.transact([Put(key, encode(registry), known.version if known else ABSENT), trace])
    return registry


def list_registries(organisation_id: str, *, world: World) -> list[Registry]:
    """All of an organisation, by address."""
    rows = walk(world.metadata, keys.registry(organisation_id, "-").partition)
    return [need(world.metadata, Registry, row.key, "this registry").value for row in rows]


@again_on_conflict
def remove_registry(organisation_id: str, address: str, *, world: World) -> None:
    """Forget the credentials. Raises `NotFound` when there are none."""
    stored = need(world.metadata, Registry, keys.registry(organisation_id, address.lower()), f"registry {address}")
    world.metadata.transact([stored.removed(), record(world, organisation_id, SERVER, "registry.remove", address)])
    world.secrets.delete(stored.value.secret_name)


def login_for(organisation_id: str, image: str, *, world: World) -> RegistryLogin | None:
    """The credentials for pulling `image`, if its registry has some."""
    stored = find(world.metadata, Registry, keys.registry(organisation_id, registry_of(image)))
    if not stored:
        return None
    try:
        password = world.secrets.get(stored.value.secret_name)
    except NotFound:
        # Removed at this moment: the engine will say that it was refused.
        return None
    return RegistryLogin(stored.value.address, stored.value.username, password)
