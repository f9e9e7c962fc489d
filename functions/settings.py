"""What an operator may decide about one server: read once, checked as a whole, told without secrets."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lamplighter.errors import Invalid

PREFIX = "LAMPLIGHTER_"
SECRET = frozenset({"admin_password"})

RuntimeChoice = Literal["auto", "docker", "process"]
Networks = Literal["public", "private", "any"]

_WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
    "": False,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """One server. Port 0 means any free one; `url` is empty unless clients use another address than host and port.

    `runtime`, `max_machines`, `idle_seconds` and `input_networks` shape the environment that the first start makes; a later
    start changes only what was given then.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8000
    url: str = ""
    runtime: RuntimeChoice = "auto"
    max_machines: int = 2
    idle_seconds: int = 300
    input_networks: Networks = "public"
    allow_private_git: bool = False
    behind_proxy: bool = False
    admin_password: str = ""
    sweep_seconds: float = 5.0
    given: frozenset[str] = frozenset()
    """The names that somebody has decided; the rest are defaults."""

    def masked(self) -> dict[str, str]:
        """Every setting as text, with secrets hidden."""
        shown = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name != "given"}
        return {name: "***" if name in SECRET and text else text for name, text in shown.items()}


def read_settings(given: Mapping[str, object | None], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line (`given`; None means not given), else `LAMPLIGHTER_<NAME>`, else the defaults.

    Raises `Invalid` with every fault at once.
    """
    values: dict[str, str] = {}
    for f in fields(Settings):
        said = given.get(f.name)
        text = environment.get(PREFIX + f.name.upper()) if said is None else str(said)
        if text is not None and (text or f.name in SECRET):
            values[f.name] = text
    faults: dict[str, list[str]] = {}
    read = _Reader(values, faults)
    settings = Settings(
        state=read.folder("state"),
        host=read.host("host", "127.0.0.1"),
        port=read.number("port", 8000, 0, 65535),
        url=read.url("url"),
        runtime=read.choice("runtime", "auto", ("auto", "docker", "process")),  # type: ignore[arg-type]
        max_machines=read.number("max_machines", 2, 1, 1000),
        idle_seconds=read.number("idle_seconds", 300, 0, 30 * 24 * 3600),
        input_networks=read.choice("input_networks", "public", ("public", "private", "any")),  # type: ignore[arg-type]
        allow_private_git=read.flag("allow_private_git"),
        behind_proxy=read.flag("behind_proxy"),
        admin_password=values.get("admin_password", ""),
        sweep_seconds=float(read.number("sweep_seconds", 5, 1, 3600)),
        given=frozenset(values),
    )
    if faults:
        raise Invalid(faults)
    return settings


def default_state(environment: Mapping[str, str]) -> Path:
    """Where a server keeps everything when nobody says otherwise."""
    base = environment.get("XDG_DATA_HOME") or os.path.join(environment.get("HOME", "."), ".local", "share")
    return Path(base) / "lamplighter"


class _Reader:
    def __init__(self, values: Mapping[str, str], faults: dict[str, list[str]]) -> None:
        self._values = values
        self._faults = faults

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self._values.get(name, str(default)).strip()
        if not re.fullmatch(r"-?\d{1,9}(\.0)?", text) or not least <= int(float(text)) <= most:
            self._faults[name] = [f"{text!r} must be a whole number from {least} to {most}."]
            return default
        return int(float(text))

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self._values.get(name, default)
        if text not in choices:
            self._faults[name] = [f"{text!r} must be one of {', '.join(choices)}."]
        return text

    def flag(self, name: str) -> bool:
        text = self._values.get(name, "").strip().lower()
        if text not in _WORDS:
            self._faults[name] = [f"{text!r} must be true or false."]
        return _WORDS.get(text, False)

    def folder(self, name: str) -> Path:
        text = self._values.get(name, "")
        if not text:
            self._faults[name] = ["Say where to keep the data: --state DIR or LAMPLIGHTER_STATE."]
        return Path(text).expanduser().absolute()

    def host(self, name: str, default: str) -> str:
        text = self._values.get(name, default)
        try:
            ipaddress.ip_address(text)
        except ValueError:
            if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})", text):
                self._faults[name] = [f"{text!r} must be an address or a host name."]
        return text

    def url(self, name: str) -> str:
        text = self._values.get(name, "").rstrip("/")
        if text:
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
                self._faults[name] = [f"{text!r} must be http(s)://host[:port]: clients drop any path behind it."]
        return text
