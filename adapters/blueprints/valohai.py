"""Reads and fills in `valohai.yaml` with the platform's own parser, guarded against what that parser does not expect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from adapters.blueprints import commands, inputs, parameters
from adapters.blueprints.bounded_yaml import load
from adapters.blueprints.faults import MAX_FAULTS, Faults, has_control, short, text_fault
from lamplighter.errors import Invalid
from lamplighter.ports import Json, StepPlan

MAX_IMAGE = 512
MAX_STOP_CONDITION = 1024
MAX_VARIABLE_BYTES = 32 * 1024
MAX_VARIABLES_BYTES = 128 * 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class ValohaiBlueprints:
    """A `Blueprints` on the `valohai-yaml` package. `input_schemes` names the URL schemes that this installation can read."""

    def __init__(self, *, input_schemes: frozenset[str] = inputs.DEFAULT_SCHEMES) -> None:
        self._schemes = input_schemes

    def read(self, text: bytes) -> list[Any]:
        """See `Blueprints.read`. An empty file is an empty list; at most 20 faults are told."""
        content = load(text)
        if content is None:
            return []
        if not isinstance(content, list):
            raise Invalid({"yaml": ['The file must be a list of items, each beginning with a line such as "- step:".']})
        messages = _schema_faults(content) or _parse_faults(content)
        if messages:
            raise Invalid({"yaml": messages})
        return content

    def plan(
        self,
        config: Sequence[Any],
        step: str,
        *,
        parameters: Json,
        inputs: Mapping[str, Sequence[str] | str],
        image: str | None = None,
        command: Sequence[str] | str | None = None,
        environment_variables: Mapping[str, str] | None = None,
    ) -> StepPlan:
        """See `Blueprints.plan`. Faults of one parameter or input stand under "parameters.<name>" and "inputs.<name>"."""
        declared = _find_step(config, step)
        faults = Faults()
        plan = _fill(declared, parameters, inputs, image, command, environment_variables or {}, self._schemes, faults)
        faults.refuse()
        return plan


def _fill(
    step: Any,
    requested_parameters: Json,
    requested_inputs: inputs.Requested,
    image: str | None,
    command: Sequence[str] | str | None,
    requested_variables: Mapping[str, str],
    schemes: frozenset[str],
    faults: Faults,
) -> StepPlan:
    values = parameters.fill(step.parameters, requested_parameters, faults)
    filled_inputs = inputs.fill(step.inputs, requested_inputs, values.file, schemes, faults)
    variables = _variables(step.environment_variables, requested_variables, faults)
    chosen_image = step.image if image is None or image == "" else image
    _check_image(chosen_image, faults)
    if step.stop_condition and len(step.stop_condition) > MAX_STOP_CONDITION:
        faults.add("stop_expression", f"The stop condition is longer than {MAX_STOP_CONDITION} characters.")
    faults.refuse()
    built, script = commands.build(step, command, values, faults)
    return StepPlan(
        step=step.name,
        image=chosen_image,
        command=built,
        script=script,
        parameters=values.file,
        inputs=filled_inputs,
        environment=step.environment,
        environment_variables=variables,
        environment_variable_groups=tuple(step.environment_variable_groups),
        time_limit=_seconds(step.time_limit),
        no_output_timeout=_seconds(step.no_output_timeout),
        stop_condition=step.stop_condition,
        upload_store=step.upload_store,
        autorestart=bool(step.autorestart),
        mounts=tuple(dict(mount.serialize()) for mount in step.mounts),
        resources=dict(step.resources.get_data()),
        icon=step.icon,
    )


def _schema_faults(content: list[Any]) -> list[str]:
    from jsonschema.exceptions import best_match
    from valohai_yaml.validation import get_validator

    messages = []
    for error in islice(get_validator().iter_errors(content), MAX_FAULTS):
        closest = best_match([error]) or error
        path = list(closest.absolute_path)
        inside = "/".join(str(part) for part in path[2:])
        where = _place(content, path[0] if path else None) + (f", property {short(inside)}" if inside else "")
        messages.append(f"{where}: {closest.message[:200]}")
    return messages


def _parse_faults(content: list[Any]) -> list[str]:
    from valohai_yaml.objs import Config

    messages: list[str] = []
    for index, item in enumerate(content):
        try:
            parsed = Config.parse([item])
            if any(_below_nought(step) for step in parsed.steps.values()):
                messages.append(f"{_place(content, index)}: a time limit must not be negative")
        except Exception as error:
            messages.append(f"{_place(content, index)}: {_explained(error)}")
        if len(messages) == MAX_FAULTS:
            break
    return messages


def _explained(error: Exception) -> str:
    if isinstance(error, IndexError):
        return 'a duration in quotes needs a unit, such as "90s" or "1h 30m"; a number of seconds stands without quotes'
    if isinstance(error, OverflowError):
        return "a duration is too long"
    return f"it cannot be understood ({type(error).__name__}: {str(error)[:200]})"


def _place(content: list[Any], index: Any) -> str:
    """Names an item of the file: 'step "train" (item 2)'."""
    if not isinstance(index, int):
        return "The file"
    item = content[index]
    if not isinstance(item, dict) or len(item) != 1:
        return f"Item {index + 1}"
    ((kind, body),) = item.items()
    name = body.get("name") if isinstance(body, dict) else None
    return f"{str(kind)[:40]} {short(name)} (item {index + 1})" if name else f"{str(kind)[:40]} (item {index + 1})"


def _find_step(config: Sequence[Any], name: str) -> Any:
    """The step as the parser's object. A later step of the same name wins, as it does for the clients."""
    from valohai_yaml.objs import Step

    steps = [item["step"] for item in config if isinstance(item, dict) and isinstance(item.get("step"), dict)]
    chosen = [step for step in steps if step.get("name") == name]
    if not chosen:
        known = ", ".join(short(step.get("name")) for step in steps[:MAX_FAULTS]) or "none"
        raise Invalid({"step": [f"There is no step {short(name)} in this commit; its steps are: {known}."]})
    try:
        return Step.parse(chosen[-1])
    except Exception as error:
        raise Invalid({"step": [f"The step {short(name)} cannot be run: {_explained(error)}."]}) from error


def _seconds(limit: timedelta | None) -> int | None:
    return None if limit is None else int(limit.total_seconds())


def _below_nought(step: Any) -> bool:
    return any(limit is not None and limit < timedelta(0) for limit in (step.time_limit, step.no_output_timeout))


def _check_image(image: Any, faults: Faults) -> None:
    if not isinstance(image, str) or not image.strip():
        faults.add("image", "The image must not be empty.")
    elif len(image) > MAX_IMAGE:
        faults.add("image", f"The image is longer than {MAX_IMAGE} characters.")
    elif image.startswith("-") or has_control(image) or any(c.isspace() for c in image) or not image.isascii():
        faults.add("image", f"{short(image)} is no image: it must not begin with - or hold blanks; try python:3.12.")


def _variables(declared: Mapping[str, Any], requested: Mapping[str, Any], faults: Faults) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name in dict.fromkeys((*declared, *requested)):
        value = requested.get(name)
        if value is None and name in declared:
            value = declared[name].default
        if value is None:
            if name in declared and not declared[name].optional:
                faults.add("environment_variables", f"The variable {short(name)} needs a value: it is not optional.")
            continue
        if fault := _variable_fault(name, value):
            faults.add("environment_variables", fault)
            continue
        variables[name] = value
    if sum(len(n) + len(v.encode()) for n, v in variables.items()) > MAX_VARIABLES_BYTES:
        faults.add("environment_variables", f"The variables hold more than {MAX_VARIABLES_BYTES} bytes together.")
    return variables


def _variable_fault(name: Any, value: Any) -> str | None:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name) or len(name) > 255:
        return f"{short(name)} is no variable name: use letters, digits, _ and -, and begin with a letter or _."
    if not isinstance(value, str):
        return f"The value of {short(name)} must be text; put it in quotes."
    fault = text_fault(value, limit=MAX_VARIABLE_BYTES)
    return f"The value of {short(name)} {fault}." if fault else None
