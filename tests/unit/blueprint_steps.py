"""One step of a `valohai.yaml`, read and planned: shared by the tests of what it says and of its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from adapters.blueprints.valohai import ValohaiBlueprints
from lamplighter.errors import Invalid
from lamplighter.ports import StepPlan

BLUEPRINTS = ValohaiBlueprints()


def step(**more: Any) -> list[Any]:
    body = {"name": "train", "image": "python:3.12", "command": "python train.py {parameters}"}
    body.update({key.replace("_", "-"): value for key, value in more.items()})
    return BLUEPRINTS.read(json.dumps([{"step": body}]).encode())


def plan(
    config: Sequence[Any],
    parameters: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    **more: Any,
) -> StepPlan:
    return BLUEPRINTS.plan(config, "train", parameters=parameters or {}, inputs=inputs or {}, **more)


def with_parameters(*declared: dict[str, Any], command: Any = "run {parameters}") -> list[Any]:
    return step(parameters=list(declared), command=command)


def faults(call: Any) -> dict[str, tuple[Any, ...]]:
    with pytest.raises(Invalid) as refused:
        call()
    return dict(refused.value.fields)
