"""Evaluates the JSONata of a state machine definition as strictly as AWS Step Functions does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

from lamplighter.ports import Json

_EVALUATION = Lock()
"""The jsonata package keeps the expression being evaluated in the compiled object, which all threads share."""


class QueryFault(Exception):
    """An expression could not be compiled or evaluated, or gave nothing."""


def is_expression(template: Any) -> bool:
    """Whether `template` is a `{% ... %}` text."""
    return isinstance(template, str) and template.startswith("{%") and template.endswith("%}")


def compile_expression(template: str) -> None:
    """Raises `QueryFault` if the `{% ... %}` text is no JSONata."""
    with _EVALUATION:
        _compiled(template)


def evaluate(template: Any, bindings: Json) -> Any:
    """A copy of a JSON `template` with every `{% ... %}` text in it replaced by its value.

    `bindings` gives the variables by name, without the dollar sign. Raises `QueryFault`, also where an expression gives
    nothing: a misspelt name must not travel on as a null.
    """
    if is_expression(template):
        return _value(template, bindings)
    if isinstance(template, Mapping):
        return {key: evaluate(part, bindings) for key, part in template.items()}
    if isinstance(template, list | tuple):
        return [evaluate(part, bindings) for part in template]
    return template


def _value(template: str, bindings: Json) -> Any:
    with _EVALUATION:
        expression = _compiled(template)
        try:
            value = expression.evaluate(None, dict(bindings))
        except Exception as error:
            raise QueryFault(f"{template} failed: {error}") from error
    if value is None:
        raise QueryFault(f"{template} gave nothing: is a name misspelt, or missing in the input?")
    return _plain(template, value)


def _plain(template: str, value: Any) -> Any:
    """The value in the types of `json`: the package has its own list, function and null."""
    from jsonata.utils import Utils

    def null(part: Any) -> None:
        if part is not Utils.NULL_VALUE:
            raise TypeError(f"a {type(part).__name__} is no JSON")

    try:
        return json.loads(json.dumps(value, default=null, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise QueryFault(f"{template} gave no JSON value: {error}") from error


@lru_cache(maxsize=1024)
def _compiled(template: str) -> Any:
    from jsonata import Jsonata

    try:
        expression = Jsonata(template[2:-2].strip())
    except Exception as error:
        raise QueryFault(f"{template} is no JSONata: {error}") from error
    expression.set_output_convert_nulls(False)
    return expression
