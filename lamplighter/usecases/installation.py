"""What an installation remembers of itself."""

from __future__ import annotations

from dataclasses import dataclass

from lamplighter import keys
from lamplighter.ports import Metadata
from lamplighter.records import find


@dataclass(frozen=True, slots=True)
class InstallationRow:
    """What an installation remembers of itself. `generation` rises when its metadata is restored from a backup."""

    id: str
    generation: int
    organisation_id: str
    admin_user_id: str


def read_installation(metadata: Metadata) -> InstallationRow | None:
    """The installation's own row, or None before `initialise`."""
    found = find(metadata, InstallationRow, keys.INSTALLATION)
    return found.value if found else None
