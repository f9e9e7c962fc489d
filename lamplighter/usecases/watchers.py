"""Whether somebody looks at an execution's log: only then are its lines sent at once."""

from __future__ import annotations

from contextlib import suppress

from lamplighter import keys
from lamplighter.domain.executions import Execution
from lamplighter.errors import LamplighterError
from lamplighter.ports import ABSENT, Put, Record
from lamplighter.usecases.status_events import microseconds
from lamplighter.world import World

WATCHED_SECONDS = 90
NOTED_AGAIN_BELOW = 30
"""A reader who polls each second is noted once a minute, and well before the last note is over: the lines keep flowing."""


def note_watcher(execution: Execution, *, world: World) -> None:
    """Somebody reads the log now. A note that cannot be written costs a watcher some seconds, never the answer."""
    if world.installation.live_logs or execution.status.terminal:
        return
    key, now = keys.watched(execution.id), microseconds(world.now())
    with suppress(LamplighterError):
        noted = world.metadata.get(key)
        if noted and int(noted.value["until"]) - now > NOTED_AGAIN_BELOW * 1_000_000:
            return
        until = now + WATCHED_SECONDS * 1_000_000
        world.metadata.transact([Put(key, {"until": until}, noted.version if noted else ABSENT)])


def is_watched(noted: Record | None, *, world: World) -> bool:
    """Whether the record at `keys.watched`, if any, is still of now."""
    return world.installation.live_logs or (noted is not None and int(noted.value["until"]) > microseconds(world.now()))
