"""What a client may ask of the runtime, read once and strictly out of the `runtime_config` object that it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lamplighter.errors import Invalid

MAX_SECONDS = 10**8
MAX_KEY = 16 * 1024


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """None where nothing was asked. Seconds, MiB, CPUs; the debug key is a public SSH key."""

    no_output_timeout: int | None = None
    autorestart: bool | None = None
    debug_port: int | None = None
    debug_key: str | None = None
    memory_mib: int | None = None
    cpus: float | None = None


def read_runtime_config(value: Mapping[str, Any]) -> RuntimeConfig:
    """The parts that Lamplighter acts on; other keys are kept for clients and mean nothing here.

    Raises `Invalid` that names the first key whose value cannot be meant.
    """
    debug = _object(value, "runtime_config", "remote_debug")
    where, node = "runtime_config", value
    for name in ("kubernetes", "containers", "workload", "resources", "limits"):
        node = _object(node, where, name)
        where = f"{where}.{name}"
    memory = _number(node, where, "memory", most=2**40)
    return RuntimeConfig(
        no_output_timeout=_whole(value, "runtime_config", "no_output_timeout", least=0, most=MAX_SECONDS),
        autorestart=_flag(value, "runtime_config", "autorestart"),
        debug_port=_whole(debug, "runtime_config.remote_debug", "debug_port", least=1, most=65535),
        debug_key=_text(debug, "runtime_config.remote_debug", "debug_key"),
        memory_mib=int(memory) if memory else None,
        cpus=_number(node, where, "cpu", most=10**6),
    )


def _object(node: Mapping[str, Any], where: str, name: str) -> Mapping[str, Any]:
    value = node.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Invalid({f"{where}.{name}": ["Expected an object."]})
    return value


def _whole(node: Mapping[str, Any], where: str, name: str, *, least: int, most: int) -> int | None:
    value = node.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Invalid({f"{where}.{name}": [f"Expected a whole number from {least} to {most}."]})
    return value


def _number(node: Mapping[str, Any], where: str, name: str, *, most: int) -> float | None:
    value = node.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise Invalid({f"{where}.{name}": [f"Expected a number from 0 to {most}."]})
    return float(value) or None


def _flag(node: Mapping[str, Any], where: str, name: str) -> bool | None:
    value = node.get(name)
    if value is not None and not isinstance(value, bool):
        raise Invalid({f"{where}.{name}": ["Expected true or false."]})
    return value


def _text(node: Mapping[str, Any], where: str, name: str) -> str | None:
    value = node.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_KEY or "\0" in value):
        raise Invalid({f"{where}.{name}": [f"Expected a text of at most {MAX_KEY} characters."]})
    return value
