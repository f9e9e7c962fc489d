"""Calls that user code makes from inside its container, with a token that is good for this attempt only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lamplighter import keys
from lamplighter.domain.executions import Execution
from lamplighter.records import Stored, again_on_conflict, need
from lamplighter.usecases.resolve_inputs import files_of, input_id
from lamplighter.usecases.sessions import lease_of_job_token
from lamplighter.world import World

MAX_DETAIL = 2000


@again_on_conflict
def set_status_detail(execution_id: str, job_token: str, text: str, *, world: World) -> None:
    """What the run says of itself, shown beside its status. Cut at MAX_DETAIL characters. Raises `NotAuthenticated`."""
    stored = _execution(execution_id, job_token, world)
    detail = text[:MAX_DETAIL]
    if stored.value.status_detail != detail:
        world.metadata.transact([stored.becomes(replace(stored.value, status_detail=detail, mtime=world.now()))])


def request_inputs(
    execution_id: str, job_token: str, input_ids: Sequence[str], *, world: World
) -> list[dict[str, Any]]:
    """Where to fetch on-demand files, per input asked for; ids that are not this execution's are left out.

    Raises `NotAuthenticated`, `Invalid` when an input's URL has become wrong.
    """
    execution = _execution(execution_id, job_token, world).value
    answer = []
    for item in execution.inputs:
        asked = input_id(execution, item.name)
        if asked not in input_ids:
            continue
        files = files_of(item, world=world)
        answer.append({"files": [{"filename": f.name, "url": f.call.url, "input_id": asked} for f in files if f.call]})
    return answer


def _execution(execution_id: str, job_token: str, world: World) -> Stored[Execution]:
    lease_of_job_token(execution_id, job_token, world=world)
    return need(world.metadata, Execution, keys.execution(execution_id), "this execution")
