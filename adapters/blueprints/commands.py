"""Builds the shell script of a step within bounds: a short text must not grow into a huge one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from adapters.blueprints.faults import Faults, short, text_fault
from adapters.blueprints.parameters import Values

MAX_SCRIPT_BYTES = 100 * 1024
"""One argument of a process holds 128 KiB on Linux; the rest is left to the agent."""

MAX_UNCLOSED = 1_000_000
_PLACEHOLDER = re.compile(r"{(.+?)}")


def build(
    step: Any, override: Sequence[str] | str | None, values: Values, faults: Faults
) -> tuple[tuple[str, ...], str]:
    """The interpolated commands and the script that runs them in one shell, stopping at the first failure.

    Faults go under "command"; the result is then empty.
    """
    commands = _listed(override) or _listed(step.command)
    special = {f"parameter-value:{n}": "False" for n, v in values.file.items() if v is False and n not in values.given}
    if step.source_path is not None:
        special["source-path"] = str(step.source_path)
    fault = (
        _text_faults(commands) or _value_fault(commands, step, values) or _growth_fault(commands, step, values, special)
    )
    if fault:
        faults.add("command", fault)
        return (), ""
    from valohai_yaml.commands import join_command

    built = _interpolated(commands, step, values, special)
    return tuple(built), join_command(built, " && ")


def _listed(command: Sequence[str] | str | None) -> list[str]:
    if command is None:
        return []
    return [command] if isinstance(command, str) else list(command)


def _interpolated(commands: list[str], step: Any, values: Values, special: dict[str, str]) -> list[str]:
    from valohai_yaml.commands import build_command
    from valohai_yaml.objs.parameter_map import ParameterMap

    return build_command(commands, ParameterMap(parameters=step.parameters, values=values.given), special)


def _text_faults(commands: list[str]) -> str | None:
    if not all(isinstance(command, str) for command in commands):
        return "The command must be a text or a list of texts."
    if not any(command.strip() for command in commands):
        return "The command is empty; there is nothing to run."
    if fault := text_fault("\n".join(commands), limit=MAX_SCRIPT_BYTES):
        return f"The command {fault}."
    for line in "\n".join(commands).split("\n"):
        tail = line[line.rfind("}") + 1 :]
        if tail.count("{") * len(tail) > MAX_UNCLOSED:
            return f"The line {short(line)} of the command opens too many braces that it never closes."
    return None


def _value_fault(commands: list[str], step: Any, values: Values) -> str | None:
    for match in _PLACEHOLDER.findall("\n".join(commands)):
        kind, _, name = match.partition(":")
        if kind != "parameter-value" or name not in step.parameters:
            continue
        if values.file.get(name) is None:
            return f"The command uses {{{match}}}, but {short(name)} has no value: give one, or a default."
        if isinstance(values.file[name], list):
            return f"The command uses {{{match}}}, but {short(name)} is a list: use {{parameter:{name}}}."
    return None


def _growth_fault(commands: list[str], step: Any, values: Values, special: dict[str, str]) -> str | None:
    uses = Counter(match for command in commands for match in _PLACEHOLDER.findall(command))
    size = sum(len(command.encode()) + 4 for command in commands)
    for match, count in uses.items():
        (text,) = _interpolated([f"{{{match}}}"], step, values, special)
        size += count * len(text.encode())
        if size > MAX_SCRIPT_BYTES:
            return (
                f"The command with its parameters is longer than {MAX_SCRIPT_BYTES} bytes; "
                "read long values from /valohai/config/parameters.json."
            )
    return None
