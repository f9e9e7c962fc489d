"""The tasks of the state machines: what their `Payload` says is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from functions.aws.wiring import sandbox_world
from lamplighter.errors import LamplighterError, plainly
from lamplighter.usecases import workflow_tasks
from lamplighter.world import World


def make_handler(world: Callable[[], World]) -> Callable[[Mapping[str, Any], Any], dict[str, Any]]:
    """What Lambda calls. Step Functions sees what is raised under the name of its class, which the definitions catch."""

    def handle(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:  # noqa: ARG001 - Lambda gives it
        try:
            return workflow_tasks.perform(event, world=world())
        except LamplighterError as error:
            raise plainly(error) from error

    return handle


handler = make_handler(sandbox_world())
