"""A datum: one file that a run made or that was adopted; and the aliases that point at data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Datum:
    """An immutable file. `epoch_n` is the attempt that made it: a lost attempt's files are never shown as outputs.

    `stored` is False between the announcement and the arrival of the bytes. Hashes are lower-case hex.
    """

    id: str
    organisation_id: str
    project_id: str
    name: str
    size: int
    store: str
    object_key: str
    uri: str
    ctime: datetime
    md5: str = ""
    sha1: str = ""
    sha256: str = ""
    execution_id: str | None = None
    execution_counter: int | None = None
    epoch_n: int = 0
    stored: bool = False
    purged: bool = False
    discarded: bool = False
    file_mtime: datetime | None = None
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def visible(self) -> bool:
        """Shown in lists of data; a purged one stays visible as such."""
        return self.stored and not self.discarded

    def is_described_by(self, metadata: Mapping[str, Any]) -> bool:
        """Whether it says all of this already."""
        return {**self.metadata, **metadata} == self.metadata


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for whichever datum it points at now."""

    name: str
    project_id: str
    datum_id: str | None
    mtime: datetime


RESERVED_PREFIX = "valohai."
TAGS = "valohai.tags"
ALIAS = "valohai.alias"
DATASET_VERSIONS = "valohai.dataset-versions"
MODEL_VERSIONS = "valohai.model-versions"


def tags_in(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags that a file's metadata asks for; anything that is not a list of texts asks for none."""
    found = metadata.get(TAGS)
    if isinstance(found, str):
        found = [found]
    return (
        tuple(dict.fromkeys(t for t in found if isinstance(t, str) and 0 < len(t) <= 100))
        if isinstance(found, list)
        else ()
    )


def alias_in(metadata: Mapping[str, Any]) -> str | None:
    """The alias that a file's metadata asks for."""
    found = metadata.get(ALIAS)
    return found if isinstance(found, str) and 0 < len(found) <= 200 else None


def free_properties(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata without reserved keys, as later runs see it beside the file."""
    return {k: v for k, v in metadata.items() if not k.startswith(RESERVED_PREFIX)}
