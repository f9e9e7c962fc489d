"""What must still happen after a change: an intent is written in the change's own transaction and carried out later.

Carrying one out twice must do no more than once. `usecases.deliver_outbox` knows how each kind is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lamplighter import keys
from lamplighter.ports import Put
from lamplighter.records import new
from lamplighter.world import World

Kind = Literal[
    "start_execution",
    "start_machine",
    "resume",
    "ensure_capacity",
    "discard_outputs",
    "carry_outputs",
    "delete_object",
    "set_alias",
]


@dataclass(frozen=True, slots=True)
class Intent:
    """A follow-up. `argument` holds ids only. `not_before` is set after a failed try; `tries` counts them."""

    id: str
    kind: Kind
    ctime: datetime
    argument: dict[str, Any] = field(default_factory=dict)
    tries: int = 0
    not_before: datetime | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to which object, when."""

    id: str
    time: datetime
    actor: str
    action: str
    object: str
    detail: dict[str, Any] = field(default_factory=dict)


def intend(world: World, kind: Kind, **argument: Any) -> Put:
    """The write that makes sure that this will happen."""
    intent = Intent(id=world.new_id(), kind=kind, ctime=world.now(), argument=argument)
    return new(keys.outbox(intent.id), intent)


def record(world: World, organisation_id: str, actor: str, action: str, thing: str, **detail: Any) -> Put:
    """The write that leaves a trace of an accepted change."""
    entry = AuditRecord(world.new_id(), world.now(), actor, action, thing, detail)
    return new(keys.audit(organisation_id, entry.id), entry)
