"""Stop conditions: a small expression over metadata keys, such as `accuracy > 0.9 and loss <= 0.1`.

Grammar: comparisons `name op literal` (op: > >= < <= == = != ), joined by `and`, `or`, `not` and brackets. A name may hold
letters, digits and any of `_ . - /`; quote others with backquotes. A key that is missing makes its comparison false.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from lamplighter.errors import Invalid

Condition = Callable[[Mapping[str, Any]], bool]

MAX_LENGTH = 1000
MAX_DEPTH = 20

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"
    r"|(?P<string>'[^']*'|\"[^\"]*\")|(?P<op>>=|<=|==|!=|=|>|<)|(?P<bracket>[()])"
    r"|`(?P<quoted>[^`]+)`|(?P<word>[A-Za-z_][\w./-]*))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
}


def parse(text: str) -> Condition:
    """The condition, ready to be asked about metadata again and again. Raises `Invalid` saying where it went wrong."""
    if len(text) > MAX_LENGTH:
        raise _wrong(text[:40] + "…", f"it is longer than {MAX_LENGTH} characters")
    parser = _Parser(text)
    condition = parser.either(0)
    if parser.peek() is not None:
        raise _wrong(text, f"did not expect {parser.peek()!r}")
    return condition


def _wrong(text: str, why: str) -> Invalid:
    return Invalid(
        {"stop_expression": [f"Cannot read the stop condition {text!r}: {why}. Write e.g. 'accuracy > 0.9'."]}
    )


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if not match or not match.lastgroup:
                raise _wrong(text, f"did not expect {text[position:].strip()[:10]!r}")
            self.tokens.append((match.lastgroup, match.group(match.lastgroup)))
            position = match.end()

    def peek(self) -> str | None:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else None

    def take(self) -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise _wrong(self.text, "it ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def either(self, depth: int) -> Condition:
        parts = [self.both(depth)]
        while self.peek() == "or":
            self.take()
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else lambda values: any(part(values) for part in parts)

    def both(self, depth: int) -> Condition:
        parts = [self.single(depth)]
        while self.peek() == "and":
            self.take()
            parts.append(self.single(depth))
        return parts[0] if len(parts) == 1 else lambda values: all(part(values) for part in parts)

    def single(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise _wrong(self.text, "it is nested too deeply")
        kind, word = self.take()
        if word == "not" and kind == "word":
            inner = self.single(depth + 1)
            return lambda values: not inner(values)
        if word == "(" and kind == "bracket":
            inner = self.either(depth + 1)
            if self.take()[1] != ")":
                raise _wrong(self.text, "a bracket is not closed")
            return inner
        return self.comparison(kind, word)

    def comparison(self, kind: str, word: str) -> Condition:
        left = self.operand(kind, word)
        kind, op = self.take()
        if kind != "op":
            raise _wrong(self.text, f"expected a comparison instead of {op!r}")
        right = self.operand(*self.take())
        compare = _COMPARE[op]

        def holds(values: Mapping[str, Any]) -> bool:
            a, b = left(values), right(values)
            if a is None or b is None:
                return False
            try:
                return bool(compare(*_alike(a, b)))
            except TypeError:
                return False

        return holds

    def operand(self, kind: str, word: str) -> Callable[[Mapping[str, Any]], Any]:
        if kind == "number":
            number = float(word)
            return lambda _values: number
        if kind == "string":
            return lambda _values: word[1:-1]
        if kind == "word" and word in ("true", "false"):
            return lambda _values: word == "true"
        if kind in ("word", "quoted"):
            name = word.removeprefix("metadata.")
            return lambda values: values.get(word, values.get(name))
        raise _wrong(self.text, f"did not expect {word!r}")


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Loggers often print numbers as text: compare those as numbers."""
    if isinstance(a, str) and isinstance(b, float):
        try:
            return float(a), b
        except ValueError:
            return a, b
    if isinstance(b, str) and isinstance(a, float):
        return tuple(reversed(_alike(b, a)))
    return a, b
