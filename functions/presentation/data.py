"""Data and aliases, as clients read them."""

from __future__ import annotations

from typing import Any

from functions.callers import Call
from functions.presentation.common import Shape, maybe_time, time
from lamplighter.domain.data import Alias, Datum


class MakerShape(Shape):
    """The execution that made a datum."""

    id: str
    counter: int | None


class DatumShape(Shape):
    """A datum. Hashes are lower-case hex, the size is bytes."""

    id: str
    name: str
    size: int
    ctime: str
    file_ctime: str | None
    file_mtime: str | None
    uri: str | None
    output_execution: MakerShape | None
    project_id: str
    md5: str
    sha1: str
    sha256: str
    store: str
    tags: list[str]
    aliases: list[str]
    metadata: dict[str, Any]
    purged: bool
    url: str


class AliasedDatum(Shape):
    """The datum that an alias points at, in short."""

    id: str
    name: str


class AliasShape(Shape):
    """A name for whichever datum it points at now."""

    name: str
    project: str
    datum: AliasedDatum | None
    mtime: str


def datum(call: Call, value: Datum) -> DatumShape:
    """The whole datum."""
    maker = MakerShape(id=value.execution_id, counter=value.execution_counter) if value.execution_id else None
    return DatumShape(
        id=value.id,
        name=value.name,
        size=value.size,
        ctime=time(value.ctime),
        file_ctime=None,
        file_mtime=maybe_time(value.file_mtime),
        uri=None if value.purged else value.uri,
        output_execution=maker,
        project_id=value.project_id,
        md5=value.md5,
        sha1=value.sha1,
        sha256=value.sha256,
        store=value.store,
        tags=list(value.tags),
        aliases=list(value.aliases),
        metadata=dict(value.metadata),
        purged=value.purged,
        url=call.url(f"/api/v0/data/{value.id}/"),
    )


def alias(value: Alias, pointed_at: Datum | None) -> AliasShape:
    """A row of the list of aliases."""
    short = AliasedDatum(id=pointed_at.id, name=pointed_at.name) if pointed_at else None
    return AliasShape(name=value.name, project=value.project_id, datum=short, mtime=time(value.mtime))
