"""Small changes to an execution that people make: tags, title, deletion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamplighter.domain.executions import Execution
from lamplighter.domain.projects import Principal
from lamplighter.errors import Invalid
from lamplighter.intents import record
from lamplighter.records import again_on_conflict
from lamplighter.usecases.browse import own_execution
from lamplighter.usecases.check_order import MAX_TAGS, MAX_TITLE
from lamplighter.usecases.stop_execution import stop_execution
from lamplighter.world import World


@again_on_conflict
def set_tags(principal: Principal, execution_id: str, tags: Sequence[str], *, world: World) -> Execution:
    """Replace the tags. Raises `Invalid`, `NotFound`."""
    if len(tags) > MAX_TAGS or any(not 0 < len(tag) <= 100 for tag in tags):
        raise Invalid({"tags": [f"At most {MAX_TAGS} tags of 1 to 100 characters."]})
    return _change(principal, execution_id, "tag", world, tags=tuple(dict.fromkeys(tags)))


@again_on_conflict
def set_title(principal: Principal, execution_id: str, title: str, *, world: World) -> Execution:
    """Replace the title. Raises `Invalid`, `NotFound`."""
    if len(title) > MAX_TITLE:
        raise Invalid({"title": [f"At most {MAX_TITLE} characters."]})
    return _change(principal, execution_id, "title", world, title=title)


def delete_execution(principal: Principal, execution_id: str, *, world: World) -> None:
    """Hide it from lists, stopping it first if it has not ended. Its outputs stay data of the project. Repeatable."""
    stored = own_execution(principal, execution_id, world=world, deleted=True)
    if stored.value.deleted:
        return
    if not stored.value.status.terminal:
        stop_execution(principal, execution_id, world=world)
    _delete(principal, execution_id, world)


@again_on_conflict
def _delete(principal: Principal, execution_id: str, world: World) -> None:
    _change(principal, execution_id, "delete", world, deleted=True)


def _change(principal: Principal, execution_id: str, action: str, world: World, **changes: object) -> Execution:
    stored = own_execution(principal, execution_id, world=world, deleted=True)
    changed: Execution = replace(stored.value, mtime=world.now(), **changes)  # type: ignore[arg-type]
    trace = record(world, stored.value.organisation_id, principal.username, f"execution.{action}", execution_id)
    world.metadata.transact([stored.becomes(changed), trace])
    return changed
