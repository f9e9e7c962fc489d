"""End an execution on request: at once while it waits, through its agent while it runs."""

from __future__ import annotations

from dataclasses import replace

from lamplighter import keys
from lamplighter.domain.executions import Execution, StopRequest
from lamplighter.domain.leases import Lease
from lamplighter.domain.projects import Principal
from lamplighter.intents import record
from lamplighter.ports import Write
from lamplighter.records import Stored, again_on_conflict, need
from lamplighter.usecases.browse import own_execution
from lamplighter.usecases.finish_execution import conclusion
from lamplighter.usecases.status_events import status_event
from lamplighter.world import World


@again_on_conflict
def stop_execution(principal: Principal, execution_id: str, *, world: World) -> str:
    """What happened, as a sentence for people. Once it returned, no new attempt starts; stopping what has ended is no error."""
    stored = own_execution(principal, execution_id, world=world)
    execution = stored.value
    if execution.status.terminal:
        return f"Execution #{execution.counter} has already ended ({execution.status})."
    if execution.stop:
        return f"Execution #{execution.counter} is already being stopped."
    lease = need(world.metadata, Lease, keys.lease(execution.id), "this execution")
    asked = execution.stop_asked(StopRequest(world.now(), principal.username), leased=lease.value.held)
    trace = record(world, execution.organisation_id, principal.username, "execution.stop", execution.id)
    world.metadata.transact([*_writes(stored, asked, lease, world), trace])
    world.nudge()
    if asked.status.terminal:
        return f"Execution #{execution.counter} was waiting and is stopped."
    return f"Execution #{execution.counter} is being stopped; its outputs will still be stored."


def _writes(stored: Stored[Execution], asked: Execution, lease: Stored[Lease], world: World) -> list[Write]:
    if asked.status.terminal:
        return conclusion(stored, asked, lease, world)
    text = f"Stop asked by {asked.stop.by}" if asked.stop else "Stop asked"
    told = lease.becomes(replace(lease.value, stopping=True))
    return [stored.becomes(asked), told, status_event(asked.id, text, world.now())]
