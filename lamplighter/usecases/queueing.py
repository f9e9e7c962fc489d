"""Where an execution stands in its queue."""

from __future__ import annotations

from lamplighter import keys
from lamplighter.domain.executions import Execution
from lamplighter.errors import Invalid
from lamplighter.ports import Key


def queue_key(execution: Execution) -> Key:
    """Where the execution stands in its queue, if it waits."""
    if execution.qtime is None:
        raise Invalid.because(f"execution {execution.id} was never queued")
    return keys.queue_entry(execution.environment_id, execution.priority, execution.qtime, execution.id)
