"""Writes the files of `/valohai/config`: each as JSON and as YAML, with the same content."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# A word that every YAML reader takes for text. The words that some take for something else are quoted.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,199}")
_SPECIAL = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_SIMPLE_KEY = 1000  # a longer key must be announced by "? ", or readers refuse it


def write_config(directory: Path, contents: Mapping[str, Any]) -> None:
    """Write each of `contents` as `<name>.json` and `<name>.yaml`; a file is there wholly or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in contents.items():
        _replace(directory / f"{name}.json", json.dumps(value, indent=2) + "\n")
        _replace(directory / f"{name}.yaml", to_yaml(value))


def to_yaml(value: Any) -> str:
    """A JSON value as YAML that readers of YAML 1.1 and 1.2 give back as the same value. ASCII only."""
    return "\n".join(_block(value, "")) + "\n"


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="ascii")
    os.replace(draft, path)


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(_text(str(key)), item, indent)
    elif isinstance(value, list | tuple) and value:
        for item in value:
            yield from _led(f"{indent}- ", item, indent + "  ")
    else:
        yield indent + _scalar(value)


def _entry(key: str, item: Any, indent: str) -> Iterator[str]:
    if len(key) > _SIMPLE_KEY:
        yield f"{indent}? {key}"
        yield from _led(f"{indent}: ", item, indent + "  ")
    elif isinstance(item, Mapping | list | tuple) and item:
        yield f"{indent}{key}:"
        yield from _block(item, indent + "  ")
    else:
        yield f"{indent}{key}: {_scalar(item)}"


def _led(lead: str, item: Any, indent: str) -> Iterator[str]:
    """The block with its first line's indentation replaced by a marker of the same width."""
    lines = _block(item, indent)
    yield lead + next(lines)[len(indent) :]
    yield from lines


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, list | tuple) else _text(str(value))


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    number, e, exponent = repr(value).partition("e")
    return f"{number if '.' in number else number + '.0'}{e}{exponent}"


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _SPECIAL:
        return text
    return '"' + "".join(map(_character, text)) + '"'


def _character(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 32 <= code < 127:
        return character
    if code < 256:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
