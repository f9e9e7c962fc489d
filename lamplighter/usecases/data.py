"""Data: found, downloaded, purged, described, and named by what a run's inputs say."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from lamplighter import keys
from lamplighter.domain.data import ALIAS, TAGS, Datum, alias_in, tags_in
from lamplighter.domain.projects import Principal, Project
from lamplighter.errors import Invalid, NotFound
from lamplighter.intents import intend, record
from lamplighter.ports import Target, Write
from lamplighter.records import again_on_conflict, find_many, walk
from lamplighter.usecases import bounds
from lamplighter.usecases.access import need_datum, need_id, need_project, readable_projects
from lamplighter.usecases.aliases import (
    delete_alias,
    fault_of_alias,
    is_datum_id,
    list_aliases,
    point_alias,
    pointing,
    resolve_alias,
    set_alias,
)
from lamplighter.usecases.attempts import outputs_of
from lamplighter.usecases.browse import own_execution
from lamplighter.world import World

__all__ = [
    "add_metadata",
    "apply_metadata",
    "delete_alias",
    "download_target",
    "get_datum",
    "list_aliases",
    "list_data",
    "point_alias",
    "purge_datum",
    "resolve_alias",
    "resolve_input_url",
    "set_alias",
]

MAX_APPLIED = 1000
"""Data that one call may describe."""

_CHUNK = 250
_DATUM = "datum://"


def list_data(
    principal: Principal,
    *,
    project_id: str | None = None,
    execution_id: str | None = None,
    tag: str | None = None,
    name: str | None = None,
    newest_first: bool = True,
    limit: int,
    offset: int,
    world: World,
) -> tuple[list[Datum], int]:
    """The data that match, from `offset` on and at most `limit`, and how many there are in all.

    Those of an execution are the outputs of its newest attempt; without project and execution, everything that the caller may
    read. `name` is the whole name, `tag` one of its tags. Purged data are listed as such. Raises `NotFound`.
    """
    if execution_id is not None:
        found = _outputs(principal, execution_id, newest_first, world)
        found = found if project_id is None else [d for d in found if d.project_id == project_id]
    elif project_id is not None:
        found = _of_project(need_project(principal, project_id, world=world).value.id, newest_first, world)
    else:
        found = _everywhere(principal, newest_first, world)
    matching = [d for d in found if (tag is None or tag in d.tags) and (name is None or name == d.name)]
    return matching[max(0, offset) :][: max(0, limit)], len(matching)


def get_datum(principal: Principal, datum_id: str, *, world: World) -> Datum:
    """The datum, purged or not. Raises `NotFound`."""
    return need_datum(principal, datum_id, world=world).value


def download_target(principal: Principal, datum_id: str, *, world: World) -> tuple[Datum, Target]:
    """The datum and a call that gives its bytes, saved under its base name. Raises `NotFound`, also when it was purged."""
    datum = get_datum(principal, datum_id, world=world)
    if datum.purged:
        raise NotFound(f"{datum.name} was purged: its bytes are gone for ever; run its execution again to make it anew")
    target = world.stores.named(datum.store).presign_get(
        datum.object_key, seconds=world.installation.presign_seconds, filename=posixpath.basename(datum.name)
    )
    return datum, target


@again_on_conflict
def purge_datum(principal: Principal, datum_id: str, *, world: World) -> Datum:
    """Have the bytes deleted; the record and the aliases that point at it stay. Repeatable."""
    stored = need_datum(principal, datum_id, world=world)
    datum = stored.value
    if datum.purged:
        return datum
    purged = replace(datum, purged=True)
    world.metadata.transact(
        [
            stored.becomes(purged),
            intend(world, "delete_object", store=datum.store, key=datum.object_key),
            record(world, datum.organisation_id, principal.username, "datum.purge", datum.id, name=datum.name),
        ]
    )
    world.nudge()
    return purged


def add_metadata(principal: Principal, datum_id: str, metadata: Mapping[str, Any], *, world: World) -> Datum:
    """Lay properties over those the datum has. `valohai.tags` and `valohai.alias` take effect, too. Repeatable.

    Raises `NotFound`, and `Invalid` for what cannot be kept.
    """
    return apply_metadata(principal, {datum_id: metadata}, world=world)[0]


def apply_metadata(principal: Principal, changes: Mapping[str, Mapping[str, Any]], *, world: World) -> list[Datum]:
    """As `add_metadata` for many data. All is checked before anything is changed; then datum by datum, so repeat after a fault."""
    if len(changes) > MAX_APPLIED:
        raise Invalid({"datum_metadata": [f"{len(changes)} data at once; at most {MAX_APPLIED} are accepted."]})
    checked = {datum_id: _checked_metadata(metadata) for datum_id, metadata in changes.items()}
    for datum_id, metadata in checked.items():
        _described(need_datum(principal, datum_id, world=world).value, metadata)
    return [_describe(principal, datum_id, metadata, world=world) for datum_id, metadata in checked.items()]


def resolve_input_url(principal: Principal, project: Project, url: str, *, world: World) -> str:
    """The URL with an alias replaced by the datum it means now, so that it will mean the same file for ever.

    Raises `Invalid` for a datum that is unknown or purged. Other schemes come back as they are.
    """
    url = bounds.line("url", url, most=bounds.URL)
    if not url.startswith(_DATUM):
        return url
    name = url.removeprefix(_DATUM)
    try:
        if is_datum_id(name):
            datum = get_datum(principal, name.lower(), world=world)
        else:
            datum = resolve_alias(principal, project.id, name, world=world)
    except NotFound as error:
        raise Invalid.because(f"{url[:200]}: {error}", "does_not_exist") from error
    if datum.purged:
        raise Invalid.because(f"{url[:200]}: {datum.name} was purged; choose another one", "purged")
    return f"{_DATUM}{datum.id}"


def _outputs(principal: Principal, execution_id: str, newest_first: bool, world: World) -> list[Datum]:
    need_id(execution_id, "execution")
    execution = own_execution(principal, execution_id, world=world, deleted=True).value
    found = outputs_of(execution, world=world)
    return found[::-1] if newest_first else found


def _of_project(project_id: str, newest_first: bool, world: World) -> list[Datum]:
    ids = (row.key.sort for row in walk(world.metadata, keys.data(project_id), newest_first=newest_first))
    return [datum for datum in _read(ids, world) if datum.visible]


def _everywhere(principal: Principal, newest_first: bool, world: World) -> list[Datum]:
    projects = readable_projects(principal, world=world)
    found = [datum for project in projects for datum in _of_project(project.id, newest_first, world)]
    return sorted(found, key=lambda datum: datum.id, reverse=newest_first)


def _read(ids: Iterator[str], world: World) -> Iterator[Datum]:
    while chunk := list(islice(ids, _CHUNK)):
        for stored in find_many(world.metadata, Datum, [keys.datum(i) for i in chunk]):
            yield stored.value


def _checked_metadata(given: object) -> dict[str, Any]:
    metadata = bounds.json_object("metadata", given)
    if TAGS in metadata:
        tags = metadata[TAGS]
        bounds.tags(TAGS, [tags] if isinstance(tags, str) else tags)
    if ALIAS in metadata:
        fault = fault_of_alias(metadata[ALIAS]) if isinstance(metadata[ALIAS], str) else "Expected a text."
        if fault:
            raise Invalid({ALIAS: [fault]})
    return metadata


def _described(datum: Datum, metadata: Mapping[str, Any]) -> Datum:
    """The datum with these properties laid over its own. Raises `Invalid` if together they are too much to keep."""
    together = bounds.json_object("metadata", {**datum.metadata, **metadata})
    tags = bounds.tags(TAGS, tuple(dict.fromkeys((*datum.tags, *tags_in(metadata)))))
    return replace(datum, metadata=together, tags=tags)


@again_on_conflict
def _describe(principal: Principal, datum_id: str, metadata: Mapping[str, Any], *, world: World) -> Datum:
    stored = need_datum(principal, datum_id, world=world)
    described = _described(stored.value, metadata)
    writes: list[Write] = []
    alias = alias_in(metadata)
    if alias:
        _, described, writes = pointing(described.project_id, alias, described, world=world)
    if described != stored.value:
        writes.append(stored.becomes(described))
    if writes:
        names = sorted(metadata)[: bounds.TAGS]
        trace = record(
            world, described.organisation_id, principal.username, "datum.describe", datum_id, properties=names
        )
        world.metadata.transact([*writes, trace])
    return described
