"""Gives each parameter of a step its value: what the container's file holds, and what its command line is built from."""

from __future__ import annotations

import copy
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.blueprints.faults import Faults, has_control, short, text_fault
from lamplighter.ports import Json

MAX_NAME = 128
MAX_VALUE_BYTES = 32 * 1024
MAX_TOTAL_BYTES = 64 * 1024
MAX_VALUES = 1000
MAX_TOTAL_VALUES = 10_000
MAX_TEMPLATE = 256
MAX_TEMPLATE_FIELDS = 4
_TEMPLATE_FIELDS = ("name", "value", "v")


@dataclass(frozen=True, slots=True)
class Values:
    """`file` is every parameter with its typed value; `given` leaves out what must not reach the command line."""

    file: dict[str, Any]
    given: dict[str, Any]


class _Unset(Exception):
    pass


def fill(declared: Mapping[str, Any], request: Json, faults: Faults) -> Values:
    """The values of a step's parameters; request values win over defaults, None means "not given".

    A parameter that the step does not know is kept as text. Faults are added under "parameters.<name>".
    """
    values = Values({}, {})
    for name, parameter in declared.items():
        field = faults.of("parameters", name)
        for message in _declaration_faults(parameter):
            faults.add(field, message)
        try:
            _fill_one(parameter, request.get(name), values)
        except _Unset:
            faults.add(field, f"The parameter {short(name)} needs a value: it has no default and is not optional.")
        except _Refused as refused:
            for message in refused.messages:
                faults.add(field, f"The parameter {short(name)}: {message}.")
    for name, value in request.items():
        if name not in declared and value is not None:
            _fill_undeclared(name, value, values, faults)
    _check_total(values, faults)
    return values


class _Refused(Exception):
    def __init__(self, messages: Sequence[str]) -> None:
        self.messages = messages
        super().__init__("; ".join(messages))


def _fill_one(parameter: Any, value: Any, values: Values) -> None:
    name = parameter.name
    if value is None and parameter.type == "flag":
        values.file[name] = False
        return
    if value is None:
        value = _default(parameter)
    if value is None:
        values.file[name] = [] if parameter.multiple else None
        return
    values.file[name] = values.given[name] = _typed(parameter, value)


def _default(parameter: Any) -> Any:
    """The declared default; None if there is none and none is needed."""
    if parameter.default is not None and (not parameter.multiple or parameter.default or _states_default(parameter)):
        return parameter.default
    if parameter.optional:
        return None
    raise _Unset


def _states_default(parameter: Any) -> bool:
    original = getattr(parameter, "_original_data", None) or {}
    return original.get("default") is not None


def _typed(parameter: Any, value: Any) -> Any:
    atoms = list(value) if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, (list, tuple)) and not parameter.multiple:
        raise _Refused(["only a single value is allowed"])
    if len(atoms) > MAX_VALUES:
        raise _Refused([f"at most {MAX_VALUES} values are allowed"])
    prepared = [_prepared(parameter.type, atom) for atom in atoms]
    checker = copy.copy(parameter)
    if parameter.choices is not None:
        checker.choices = [_choice(parameter.type, choice) for choice in parameter.choices]
    try:
        result = checker.validate(prepared if parameter.multiple else prepared[0])
    except Exception as error:
        messages = getattr(error, "errors", None) or [error]
        raise _Refused([str(message)[:300] for message in messages]) from error
    for atom in result if parameter.multiple else [result]:
        _check_range(atom)
    return result


def _prepared(kind: str, atom: Any) -> Any:
    """The atom in a form whose meaning `Parameter.validate` cannot mistake."""
    if atom is None or not isinstance(atom, (str, int, float)):
        raise _Refused(["a value must be text, a number or a truth value"])
    if kind == "string":
        return _text(atom)
    if kind == "flag":
        return _truth(atom)
    if isinstance(atom, bool):
        raise _Refused([f"{_text(atom)} is not a number"])
    if kind == "integer" and isinstance(atom, float) and atom.is_integer():
        return int(atom)
    if isinstance(atom, str) and len(atom) > 64:
        raise _Refused([f"{short(atom)} is not a number"])
    return atom


def _choice(kind: str, choice: Any) -> Any:
    try:
        prepared = _prepared(kind, choice)
        return {"integer": int, "float": float}.get(kind, lambda same: same)(prepared)
    except (_Refused, ValueError, OverflowError):
        return choice


def _text(atom: str | float) -> str:
    text = ("true" if atom else "false") if isinstance(atom, bool) else str(atom)
    if fault := text_fault(text, limit=MAX_VALUE_BYTES):
        raise _Refused([f"the value {fault}"])
    return text


def _truth(atom: str | float) -> bool:
    if isinstance(atom, bool):
        return atom
    if isinstance(atom, str) and atom.lower() in ("true", "false"):
        return atom.lower() == "true"
    raise _Refused([f"{short(atom)} is not true or false"])


def _check_range(atom: Any) -> None:
    if isinstance(atom, float) and not math.isfinite(atom):
        raise _Refused(["the number must be finite"])
    if isinstance(atom, int) and not -(2**63) <= atom < 2**63:
        raise _Refused(["the number does not fit into 64 bit"])


def _fill_undeclared(name: str, value: Any, values: Values, faults: Faults) -> None:
    field = faults.of("parameters", name)
    if fault := _name_fault(name):
        faults.add(field, fault)
    if not isinstance(value, (str, int, float)):
        faults.add(field, f"The step does not declare {short(name)}, so it can only be a single text or number.")
        return
    try:
        values.file[name] = values.given[name] = _text(value)
    except _Refused as refused:
        faults.add(field, f"The parameter {short(name)}: {refused}.")


def _declaration_faults(parameter: Any) -> list[str]:
    messages = [fault] if (fault := _name_fault(parameter.name)) else []
    for key in ("pass_as", "pass_true_as", "pass_false_as"):
        template = getattr(parameter, key)
        if template and (fault := template_fault(str(template))):
            messages.append(f"{key.replace('_', '-')} {short(template)} of {short(parameter.name)} {fault}.")
    return messages


def template_fault(template: str) -> str | None:
    """Why a pass-as template cannot be filled in safely, or None. Only {name}, {value} and {v} may stand in braces."""
    if len(template) > MAX_TEMPLATE:
        return f"is longer than {MAX_TEMPLATE} characters"
    fields = 0
    try:
        for word in template.split():
            for _, name, spec, conversion in string.Formatter().parse(word):
                if name is None:
                    continue
                fields += 1
                if name not in _TEMPLATE_FIELDS or spec or conversion:
                    return "may hold only {name}, {value} and {v} in braces; double a brace to mean itself"
    except ValueError as error:
        return f"is not a template ({error}); double a brace to mean itself"
    return f"holds more than {MAX_TEMPLATE_FIELDS} placeholders" if fields > MAX_TEMPLATE_FIELDS else None


def _name_fault(name: Any) -> str | None:
    if (
        not isinstance(name, str)
        or not name
        or len(name) > MAX_NAME
        or has_control(name)
        or text_fault(name, limit=512)
    ):
        return f"{short(name)} is no parameter name: use 1 to {MAX_NAME} printable characters."
    return None


def _check_total(values: Values, faults: Faults) -> None:
    atoms = [atom for v in values.file.values() for atom in (v if isinstance(v, list) else [v])]
    if len(atoms) > MAX_TOTAL_VALUES:
        faults.add("parameters", f"More than {MAX_TOTAL_VALUES} values are given; pass them as an input file.")
    elif sum(len(str(atom).encode("utf-8", "replace")) for atom in atoms) > MAX_TOTAL_BYTES:
        faults.add("parameters", f"The values are longer than {MAX_TOTAL_BYTES} bytes; pass them as an input file.")
