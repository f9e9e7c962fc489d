"""Aliases: names within a project, each pointing at one datum at a time."""

from __future__ import annotations

import re
from dataclasses import replace

from lamplighter import keys
from lamplighter.contract.wire import decode
from lamplighter.domain.data import Alias, Datum
from lamplighter.domain.projects import Principal
from lamplighter.errors import Invalid, NotFound
from lamplighter.intents import record
from lamplighter.ports import Write
from lamplighter.records import again_on_conflict, find, find_many, new, walk
from lamplighter.usecases import bounds
from lamplighter.usecases.access import SERVER, need_datum, need_project, readable_projects
from lamplighter.world import World

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def is_datum_id(text: str) -> bool:
    """Whether a text after `datum://` is meant as an id rather than as an alias."""
    return bool(_UUID.fullmatch(text))


def fault_of_alias(name: str) -> str | None:
    """Why this cannot be an alias, or None."""
    if not 0 < len(name) <= bounds.NAME or not name.isprintable() or name != name.strip():
        return f"An alias has 1 to {bounds.NAME} printable characters without spaces around them."
    if any(c in name for c in "/?#"):
        return "An alias holds no / ? or #: it is written as datum://alias."
    if is_datum_id(name):
        return "An alias may not look like the id of a datum."
    return None


def list_aliases(principal: Principal, project_id: str | None, *, world: World) -> list[tuple[Alias, Datum | None]]:
    """The aliases of a project, or of all that the caller may read, with what they point at; last changed first."""
    if project_id is not None:
        projects = [need_project(principal, project_id, world=world).value]
    else:
        projects = readable_projects(principal, world=world)
    rows = [row for project in projects for row in walk(world.metadata, keys.aliases(project.id))]
    aliases = sorted((decode(Alias, row.value) for row in rows), key=lambda alias: alias.mtime, reverse=True)
    wanted = [keys.datum(alias.datum_id) for alias in aliases if alias.datum_id]
    data = {stored.value.id: stored.value for stored in find_many(world.metadata, Datum, list(dict.fromkeys(wanted)))}
    return [(alias, data.get(alias.datum_id or "")) for alias in aliases]


def resolve_alias(principal: Principal, project_id: str, name: str, *, world: World) -> Datum:
    """What the alias points at now, even if that is purged. Raises `NotFound`."""
    need_project(principal, project_id, world=world)
    stored = None if fault_of_alias(name) else find(world.metadata, Alias, keys.alias(project_id, name))
    if not stored or not stored.value.datum_id:
        raise NotFound(f'this project has no alias "{name[:100]}"')
    return need_datum(principal, stored.value.datum_id, world=world).value


@again_on_conflict
def set_alias(principal: Principal, project_id: str, name: str, datum_id: str, *, world: World) -> Alias:
    """Point the alias at this datum of the organisation, whatever it meant before. Raises `Invalid`, `NotFound`."""
    project = need_project(principal, project_id, world=world)
    fault = fault_of_alias(name)
    if fault:
        raise Invalid({"name": [fault]})
    target = need_datum(principal, datum_id, world=world)
    alias, named, writes = pointing(project_id, name, target.value, world=world)
    if named != target.value:
        writes.append(target.becomes(named))
    if writes:
        trace = record(
            world, principal.organisation_id, principal.username, "alias.set", project_id, name=name, datum=datum_id
        )
        world.metadata.transact([*writes, project.unchanged(), trace])
    return alias


@again_on_conflict
def delete_alias(principal: Principal, project_id: str, name: str, *, world: World) -> None:
    """Forget the alias; the datum stays. Deleting what is not there is no error."""
    need_project(principal, project_id, world=world)
    stored = None if fault_of_alias(name) else find(world.metadata, Alias, keys.alias(project_id, name))
    if not stored:
        return
    trace = record(world, principal.organisation_id, principal.username, "alias.delete", project_id, name=name)
    world.metadata.transact([stored.removed(), *_unnamed(stored.value.datum_id, stored.value, world), trace])


@again_on_conflict
def point_alias(project_id: str, name: str, datum_id: str, *, world: World) -> None:
    """What a run asked for with its output. The newest datum wins, in whatever order the wishes arrive; repeatable.

    A wish for a name that cannot be one, or for a datum that is not shown, is dropped: nobody waits for an answer.
    """
    target = find(world.metadata, Datum, keys.datum(datum_id))
    if fault_of_alias(name) or not target or not target.value.visible:
        return
    before = find(world.metadata, Alias, keys.alias(project_id, name))
    if before and before.value.datum_id and before.value.datum_id > datum_id:
        forgotten = _unnamed(datum_id, before.value, world)
        if forgotten:
            world.metadata.transact(forgotten)
        return
    _, named, writes = pointing(project_id, name, target.value, world=world)
    if named != target.value:
        writes.append(target.becomes(named))
    if writes:
        trace = record(world, target.value.organisation_id, SERVER, "alias.set", project_id, name=name, datum=datum_id)
        world.metadata.transact([*writes, trace])


def pointing(project_id: str, name: str, datum: Datum, *, world: World) -> tuple[Alias, Datum, list[Write]]:
    """The alias and the datum as they will be, and the writes besides that of the datum itself, which is the caller's."""
    key = keys.alias(project_id, name)
    before = find(world.metadata, Alias, key)
    named = datum if name in datum.aliases else replace(datum, aliases=(*datum.aliases, name))
    if before and before.value.datum_id == datum.id:
        return before.value, named, []
    alias = Alias(name, project_id, datum.id, world.now())
    if not before:
        return alias, named, [new(key, alias)]
    return alias, named, [before.becomes(alias), *_unnamed(before.value.datum_id, before.value, world)]


def _unnamed(datum_id: str | None, alias: Alias, world: World) -> list[Write]:
    """The write by which a datum forgets an alias, if it knew of it."""
    stored = find(world.metadata, Datum, keys.datum(datum_id)) if datum_id else None
    if not stored or alias.name not in stored.value.aliases:
        return []
    return [stored.becomes(replace(stored.value, aliases=tuple(a for a in stored.value.aliases if a != alias.name)))]
