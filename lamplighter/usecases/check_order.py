"""A request for a run, and everything that is wrong with one before it is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lamplighter.contract import expressions
from lamplighter.domain.environments import Environment
from lamplighter.domain.projects import Project
from lamplighter.domain.runtime_config import read_runtime_config
from lamplighter.errors import Invalid, NotFound
from lamplighter.ports import StepPlan
from lamplighter.usecases import bounds
from lamplighter.world import World

MAX_TITLE = 1000
MAX_TAGS = 50


@dataclass(frozen=True, slots=True)
class SubmitExecution:
    """What a client asks for. What it leaves out comes from the commit's `valohai.yaml`. Limits are seconds."""

    project_id: str
    commit: str
    step: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str] | str] = field(default_factory=dict)
    environment: str | None = None
    image: str | None = None
    title: str = ""
    command: Sequence[str] | str | None = None
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    inherit_environment_variables: bool = True
    environment_variable_groups: Sequence[str] = ()
    tags: Sequence[str] = ()
    runtime_config: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    time_limit: int | None = None
    stop_expression: str | None = None
    autorestart: bool | None = None
    notebook: bool = False


def check_order(order: SubmitExecution, plan: StepPlan, environment: Environment) -> None:
    """Raises `Invalid` with every fault at once; a request that no machine could ever serve is one."""
    faults: dict[str, list[str]] = {}
    why = environment.impossible(plan.resources)
    if why:
        faults["environment"] = [
            f"This can never run here: {why}. Choose another environment or lower the step's resources."
        ]
    if len(order.title) > MAX_TITLE:
        faults["title"] = [f"At most {MAX_TITLE} characters."]
    if len(order.tags) > MAX_TAGS or any(not 0 < len(tag) <= 100 for tag in order.tags):
        faults["tags"] = [f"At most {MAX_TAGS} tags of 1 to 100 characters."]
    if order.time_limit is not None and not 0 <= order.time_limit <= 10**8:
        faults["time_limit"] = ["Seconds, from 0 (none) to 100000000."]
    if not -(10**6) <= order.priority <= 10**6:
        faults["priority"] = ["A whole number from -1000000 to 1000000."]
    try:
        read_runtime_config(bounds.json_object("runtime_config", order.runtime_config))
    except Invalid as error:
        faults |= {name: [str(error)] for name in error.fields}
    groups = sorted({*order.environment_variable_groups, *plan.environment_variable_groups})
    if groups:
        names = ", ".join(groups)[:300]
        faults["environment_variable_groups"] = [
            f"There is no environment variable group {names}. Set the variables on the project: "
            "`vh project environment-variables create NAME=VALUE`."
        ]
    condition = order.stop_expression or plan.stop_condition
    if condition:
        try:
            expressions.parse(condition)
        except Invalid as error:
            faults["stop_expression"] = [str(error)]
    if faults:
        raise Invalid(faults)


def upload_store_of(project: Project, plan: StepPlan, *, world: World) -> str | None:
    """Where outputs are wanted, or None for the default. Raises `Invalid` for a store that is not there."""
    wanted = plan.upload_store or project.default_store
    try:
        return wanted if wanted and world.stores.named(wanted) else None
    except NotFound as error:
        raise Invalid({"upload_store": [str(error)]}) from error
