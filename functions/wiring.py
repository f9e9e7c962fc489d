"""One server's world, put together from its settings: the only place that knows which adapter stands behind which port."""

from __future__ import annotations

import json
import secrets as random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapters.catalogue import adapter
from functions.ids import RisingClock, RisingIds
from functions.settings import Settings
from functions.stores import SCHEME, ConfiguredStores, disk_stores
from lamplighter.errors import NotFound
from lamplighter.ports import Cloud, Json, Secrets
from lamplighter.usecases import workflow_tasks
from lamplighter.usecases.installation import read_installation
from lamplighter.world import Installation, World

DEFINITIONS = Path(__file__).resolve().parent.parent / "state_machines"

JOIN_KEY = "installation/join-key"
OBJECTS_KEY = "installation/objects-key"

HEARTBEAT_SECONDS = 3.0
"""A call costs nothing on one server, and a silent program's stop waits no longer than this."""

POLL_SECONDS = 0.25
"""Half of it is added to the start of a step on a warm machine; a question costs about 2 ms of a core."""


@dataclass(frozen=True, slots=True)
class Wired:
    """A world with the parts that a server must also serve, start and stop."""

    world: World
    objects: Any
    workflow: Any
    metadata: Any
    stores: ConfiguredStores
    uploads: Path


def make_world(settings: Settings) -> World:
    """The world alone, for commands that work on the state folder beside a running server."""
    return wire(settings, settings.url or f"http://{settings.host}:{settings.port}").world


def wire(
    settings: Settings,
    url: str,
    *,
    nudge: Callable[[], None] = lambda: None,
    up_since: float = 0.0,
    clouds: Mapping[str, Cloud] = MappingProxyType({}),
) -> Wired:
    """Everything, wired; nothing runs yet. The state folder must exist; `url` is where clients reach this server, and `clouds`
    are offered beside this server itself.

    Raises `Unavailable` or `Invalid` when the state cannot be used.
    """
    clock, new_id = RisingClock(), RisingIds()
    metadata = adapter("metadata", "sqlite")(settings.state / "metadata.sqlite3")
    secrets = adapter("secrets", "file")(settings.state / "secrets")
    local = adapter("stores", "local_disk")(
        settings.state / "store",
        base_url=url,
        signing_key=bytes.fromhex(own_key(secrets, OBJECTS_KEY)),
        clock=clock,
    )
    own_key(secrets, JOIN_KEY)
    stores = disk_stores(metadata, secrets, local)
    known = read_installation(metadata)
    worlds: list[World] = []
    workflow = adapter("workflow", "embedded")(
        metadata, _definitions(), lambda payload: _perform(payload, worlds), clock, new_id
    )
    world = World(
        installation=Installation(
            id=known.id if known else new_id(),
            url=url,
            generation=known.generation if known else 1,
            up_since=up_since,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            poll_seconds=POLL_SECONDS,
            longest_poll_seconds=POLL_SECONDS,
        ),
        metadata=metadata,
        stores=stores,
        clouds={"local": adapter("clouds", "local")(settings.state / "machines"), **clouds},
        workflow=workflow,
        secrets=secrets,
        blueprints=_blueprints(),
        git=adapter("githosts", "bare_git")(
            allow_private_hosts=settings.allow_private_git, allow_local_paths=settings.allow_private_git
        ),
        now=clock,
        new_id=new_id,
        nudge=nudge,
    )
    worlds.append(world)
    uploads = settings.state / "uploads"
    uploads.mkdir(mode=0o700, exist_ok=True)
    return Wired(world, local, workflow, metadata, stores, uploads)


def _perform(payload: Json, worlds: list[World]) -> Json:
    return workflow_tasks.perform(payload, world=worlds[0])


def _definitions() -> dict[str, Any]:
    paths = sorted(DEFINITIONS.glob("*.asl.json"))
    return {path.name.removesuffix(".asl.json"): json.loads(path.read_text()) for path in paths}


def _blueprints() -> Any:
    from adapters.blueprints.inputs import DEFAULT_SCHEMES  # the YAML parser is slow to load

    return adapter("blueprints", "valohai")(input_schemes=DEFAULT_SCHEMES | {SCHEME})


def own_key(secrets: Secrets, name: str) -> str:
    """A key of this installation, made up at the first start."""
    try:
        return secrets.get(name)
    except NotFound:
        value = random.token_hex(32)
        secrets.put(name, value)
        return value
