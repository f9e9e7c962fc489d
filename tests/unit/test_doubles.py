"""The doubles behave as the tests rely on."""

from __future__ import annotations

import pytest

from lamplighter.errors import AlreadyExists
from tests.doubles import START, RecordingWorkflow, make_world


def test_a_fresh_world_starts_at_a_known_moment_with_known_ids() -> None:
    world = make_world()

    first, second = world.new_id(), world.new_id()

    assert world.now() == START
    assert world.now() > START
    assert first < second


def test_a_workflow_that_is_started_twice_alike_runs_once() -> None:
    workflow = RecordingWorkflow()
    workflow.start("execution", "e1", {"execution_id": "e1"})
    workflow.start("execution", "e1", {"execution_id": "e1"})

    with pytest.raises(AlreadyExists):
        workflow.start("execution", "e1", {"execution_id": "other"})

    assert workflow.started == {"e1": ("execution", {"execution_id": "e1"})}
