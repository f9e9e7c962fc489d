"""What IAM would decide, for the part of its policy language that our templates use; anything else is refused loudly.

Rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html. An explicit Deny wins, then an
Allow, else it is denied. A condition whose key is absent does not hold, unless its operator ends in IfExists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Statement = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """One call. `context` are the condition keys that AWS would send along, as text."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def without(self, key: str) -> Request:
        """The same call, had AWS not sent this key."""
        return Request(self.action, self.resource, {k: v for k, v in self.context.items() if k != key})


def allowed(statements: Iterable[Statement], request: Request) -> bool:
    """Whether a principal with these statements may do it."""
    effects = {s["Effect"] for s in statements if _applies(s, request)}
    return "Allow" in effects and "Deny" not in effects


def denied_outright(statements: Iterable[Statement], request: Request) -> bool:
    """Whether a Deny applies: what a policy on a resource adds to the rights of whoever calls."""
    return any(s["Effect"] == "Deny" and _applies(s, request) for s in statements)


def listed(value: Any) -> list[Any]:
    """IAM writes a list of one without brackets."""
    return list(value) if isinstance(value, list) else [value]


def _applies(statement: Statement, request: Request) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    assert not unknown, f"the evaluator does not know {unknown}"
    return (
        any(_like(pattern.lower(), request.action.lower()) for pattern in listed(statement["Action"]))
        and any(_like(pattern, request.resource) for pattern in listed(statement["Resource"]))
        and all(
            _holds(operator, key, listed(wanted), request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: list[Any], context: Mapping[str, str]) -> bool:
    base = operator.removesuffix("IfExists")
    assert base in _OPERATORS, f"the evaluator does not know {operator}"
    if key not in context:
        return base != operator
    return any(_OPERATORS[base](context[key], str(value)) for value in wanted)


def _like(pattern: str, text: str) -> bool:
    parts = ("." if c == "?" else ".*" if c == "*" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), text) is not None


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "ArnEquals": lambda found, wanted: _like(wanted, found),
    "Bool": lambda found, wanted: found.lower() == wanted.lower(),
    "NumericGreaterThan": lambda found, wanted: float(found) > float(wanted),
    "NumericLessThanEquals": lambda found, wanted: float(found) <= float(wanted),
    "StringEquals": lambda found, wanted: found == wanted,
    "StringLike": lambda found, wanted: _like(wanted, found),
}
