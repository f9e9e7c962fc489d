"""Reads YAML from strangers in bounded time and memory, and gives plain JSON values or says where it is wrong.

Walks over the parser's events instead of building a document: a bomb is refused before it is built.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from lamplighter.errors import Invalid

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_NODES = 20_000
MAX_NUMBER_CHARACTERS = 64

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMERIC = re.compile(r"[-+]?[0-9][0-9_.:]*", re.ASCII)


class _Loader(_Base):  # type: ignore[misc]
    """Knows which plain words are numbers, truths and null; dates stay text, as JSON knows none."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class wants exactly this attribute
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(("timestamp", ":value"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Fault(Exception):
    def __init__(self, what: str, mark: Any = None) -> None:
        self.what = what
        self.mark = mark
        super().__init__(what)


def load(text: bytes) -> Any:
    """The one document in `text` as dicts with text keys, lists, str, int (64 bit), finite float, bool and None.

    Raises `Invalid` under the field "yaml" for anything else: more than MAX_BYTES, MAX_DEPTH levels or MAX_NODES values,
    an alias, a tag, a merge key, a key twice, a key that is no text. The message gives line and column.
    """
    if len(text) > MAX_BYTES:
        raise _refusal(_Fault(f"the file holds {len(text)} bytes; at most {MAX_BYTES} are read: make it shorter"))
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refusal(_Fault(f"byte {error.start} is not UTF-8: save the file as UTF-8")) from error
    if re.search(r"^%TAG", decoded, re.MULTILINE):
        raise _refusal(_Fault("%TAG directives are not accepted: remove them"))
    try:
        loader = _Loader(decoded)
        try:
            return _document(loader)
        finally:
            loader.dispose()
    except _Fault as fault:
        raise _refusal(fault) from fault
    except yaml.MarkedYAMLError as error:
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise _refusal(_Fault(f"it is not sound YAML: {what}", error.problem_mark or error.context_mark)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refusal(_Fault(f"it is not sound YAML: {what}")) from error


def _refusal(fault: _Fault) -> Invalid:
    where = f"line {fault.mark.line + 1}, column {fault.mark.column + 1}: " if fault.mark else ""
    what = fault.what if len(fault.what) <= 400 else fault.what[:400] + "…"
    return Invalid({"yaml": [where + what]})


def _document(loader: Any) -> Any:
    builder = _Builder(loader)
    documents = 0
    while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Fault("a second document starts here: keep one", event.start_mark)
        elif isinstance(event, yaml.NodeEvent):
            builder.node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            builder.end()
    return builder.value


class _Builder:
    """Builds values without recursion: `_open` holds the collections that have not ended."""

    def __init__(self, loader: Any) -> None:
        self.value: Any = None
        self._loader = loader
        self._open: list[Any] = []
        self._keys: list[str | None] = []
        self._nodes = 0

    def node(self, event: Any) -> None:
        mark = event.start_mark
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Fault(f"more than {MAX_NODES} values: make the file smaller", mark)
        if isinstance(event, yaml.AliasEvent):
            raise _Fault("aliases (*name) are not accepted: write the value out", mark)
        if isinstance(event, yaml.ScalarEvent):
            self._add(_scalar(self._loader, event), event)
            return
        if event.tag is not None:
            raise _Fault("tags (!name) are not accepted: remove it", mark)
        if len(self._open) >= MAX_DEPTH:
            raise _Fault(f"nested deeper than {MAX_DEPTH} levels: flatten it", mark)
        fresh: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self._add(fresh, event)
        self._open.append(fresh)
        self._keys.append(None)

    def end(self) -> None:
        self._open.pop()
        self._keys.pop()

    def _add(self, value: Any, event: Any) -> None:
        if not self._open:
            self.value = value
            return
        parent = self._open[-1]
        if isinstance(parent, list):
            parent.append(value)
            return
        key = self._keys[-1]
        if key is not None:
            parent[key] = value
            self._keys[-1] = None
            return
        self._keys[-1] = _checked_key(value, parent, event)


def _checked_key(value: Any, parent: dict[str, Any], event: Any) -> str:
    if value == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
        raise _Fault("merge keys (<<) are not accepted: write the values out", event.start_mark)
    if not isinstance(value, str):
        raise _Fault("a key must be text: put it in quotes", event.start_mark)
    if value in parent:
        raise _Fault(f'the key "{value[:80]}" occurs twice: keep one', event.start_mark)
    return value


def _scalar(loader: Any, event: Any) -> Any:
    if event.tag is not None:
        raise _Fault("tags (!name) are not accepted: remove it", event.start_mark)
    text: str = event.value
    if "\0" in text:
        raise _Fault("a NUL character is not accepted: remove it", event.start_mark)
    if not event.implicit[0] or (len(text) > MAX_NUMBER_CHARACTERS and not _NUMERIC.fullmatch(text)):
        return _unicode(text, event)
    kind = loader.resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    if kind in ("int", "float"):
        return _number(kind, text, event)
    return _unicode(text, event)


def _number(kind: str, text: str, event: Any) -> int | float:
    if len(text) <= MAX_NUMBER_CHARACTERS:
        try:
            value = _whole(text) if kind == "int" else _fraction(text)
        except ValueError as error:
            raise _Fault(f'"{text}" is no number: put it in quotes if it is text', event.start_mark) from error
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
    raise _Fault(
        f'the number "{text[:40]}" is out of range (64 bit, finite): put it in quotes if it is text', event.start_mark
    )


def _whole(text: str) -> int:
    sign, digits = _signed(text)
    if ":" in digits:
        return sign * int(_sexagesimal(digits, int))
    if digits.startswith(("0b", "0x")):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if digits.startswith("0") else 10)


def _fraction(text: str) -> float:
    sign, digits = _signed(text.lower())
    if digits in (".inf", ".nan"):
        return math.inf
    return sign * (float(_sexagesimal(digits, float)) if ":" in digits else float(digits))


def _signed(text: str) -> tuple[int, str]:
    plain = text.replace("_", "")
    return (-1 if plain.startswith("-") else 1), plain.lstrip("+-")


def _sexagesimal(digits: str, convert: type[int] | type[float]) -> int | float:
    total: int | float = 0
    for part in digits.split(":"):
        total = total * 60 + convert(part)
    return total


def _unicode(text: str, event: Any) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Fault("half of a surrogate pair is not a character: remove it", event.start_mark) from error
    return text
