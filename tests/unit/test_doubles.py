"""The doubles behave as the tests rely on."""

from __future__ import annotations

import io

import pytest

from lamplighter.errors import AlreadyExists, AlreadyWritten
from tests.doubles import START, MemoryStore, RecordingWorkflow, make_world


def test_a_fresh_world_starts_at_a_known_moment_with_known_ids() -> None:
    world = make_world()

    first, second = world.new_id(), world.new_id()

    assert world.now() == START
    assert world.now() > START
    assert first < second


def test_the_store_refuses_a_second_object_under_one_key() -> None:
    store = MemoryStore()
    store.put("a", io.BytesIO(b"one"), size=3)

    with pytest.raises(AlreadyWritten):
        store.put("a", io.BytesIO(b"two"), size=3)

    assert b"".join(store.get("a")) == b"one"


def test_a_workflow_that_is_started_twice_alike_runs_once() -> None:
    workflow = RecordingWorkflow()
    workflow.start("execution", "e1", {"execution_id": "e1"})
    workflow.start("execution", "e1", {"execution_id": "e1"})

    with pytest.raises(AlreadyExists):
        workflow.start("execution", "e1", {"execution_id": "other"})

    assert workflow.started == {"e1": ("execution", {"execution_id": "e1"})}
