"""Reads what this machine was told at its launch, and writes it where the agent's unit and the timers look.

Limits of time take effect even when the rest is refused: a machine with faulty user data has to end, too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TOLD = "etc/lamplighter/worker.json"
RUN = "run/lamplighter"
TIMER = "run/systemd/system/lamplighter-maxlife.timer.d/limit.conf"
TOKEN = "join-token"  # noqa: S105 - the name of a file

MOST_BYTES = 64 * 1024
LONGEST_SECONDS = 30 * 24 * 3600
LONGEST_LIFE_SECONDS = 365 * 24 * 3600

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_IDENTITIES = ("join-token", "ec2")
_CHOICES = {"runtime": ("docker", "process", "auto"), "input_networks": ("public", "private", "any")}
_KNOWN = {
    *("control_url", "identity", "installation", "machine_id", "join_token", "cache_mib"),
    *("max_life_seconds", "max_life_hours", "deadman_seconds", *_CHOICES),
}


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, or 1 after one line per fault."""
    parser = argparse.ArgumentParser("lamplighter-settings", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the machine's files begin (/)")
    parser.add_argument("--arm", metavar="COMMAND", help="is run when the limits of time are written")
    given = parser.parse_args(arguments)
    root: Path = given.root
    faults: list[str] = []
    told = _read(root / TOLD, faults)
    _write_limits(root, told, faults)
    if given.arm:
        subprocess.run([given.arm], check=False)
    options = _options(told, faults)
    if faults:
        for fault in faults:
            print(f"lamplighter: /{TOLD}: {fault}", file=sys.stderr)
        return 1
    _write(root / RUN / TOKEN, f"{told.get('join_token', '')}\n")
    _write(root / RUN / "agent.env", f"OPTIONS={' '.join(options)}\n")
    return 0


def _read(path: Path, faults: list[str]) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        told = json.loads(content) if len(content) <= MOST_BYTES else None
    except FileNotFoundError:
        faults.append("there is no such file: user data has to write it, as the image's README shows")
        return {}
    except (OSError, ValueError, RecursionError) as error:
        faults.append(f"cannot be read as JSON: {str(error)[:200]}")
        return {}
    if not isinstance(told, dict):
        faults.append(f"is no JSON object of at most {MOST_BYTES} bytes")
        return {}
    faults.extend(f"{name[:100]!r} is no field of it" for name in told if name not in _KNOWN)
    return told


def _write_limits(root: Path, told: Mapping[str, Any], faults: list[str]) -> None:
    deadman = _number(told, "deadman_seconds", 1, LONGEST_SECONDS, faults)
    if deadman is not None:
        _write(root / RUN / "deadman-seconds", f"{deadman}\n")
    life = _life(told, faults)
    if life is not None:
        # The empty line removes the limit that the image has.
        _write(root / TIMER, f"[Timer]\nOnBootSec=\nOnBootSec={life}s\n")


def _life(told: Mapping[str, Any], faults: list[str]) -> int | None:
    """Seconds; the shorter of the two if somebody gave both."""
    seconds = _number(told, "max_life_seconds", 1, LONGEST_LIFE_SECONDS, faults)
    hours = _number(told, "max_life_hours", 1, LONGEST_LIFE_SECONDS // 3600, faults)
    limits = [limit for limit in (seconds, hours and hours * 3600) if limit]
    return min(limits, default=None)


def _options(told: Mapping[str, Any], faults: list[str]) -> list[str]:
    """The agent's options. No value holds a space: systemd splits them there."""
    options = ["--control-url", _url(told, faults), *_identity(told, faults)]
    for name, choices in _CHOICES.items():
        value = told.get(name, choices[0])
        if value not in choices:
            faults.append(f"{name} must be one of {', '.join(choices)}")
        options += [_option(name), str(value)]
    cache = _number(told, "cache_mib", 0, 2**30, faults)
    if cache is not None:
        options += ["--cache-mib", str(cache)]
    deadman = told.get("deadman_seconds")
    if deadman is not None:
        options += ["--idle-power-off-seconds", str(deadman)]
    return options


def _identity(told: Mapping[str, Any], faults: list[str]) -> list[str]:
    identity = told.get("identity", _IDENTITIES[0])
    if identity == "ec2":
        return ["--identity", "ec2", "--installation", _word(told, "installation", faults)]
    if identity != "join-token":
        faults.append(f"identity must be one of {', '.join(_IDENTITIES)}")
        return []
    _word(told, "join_token", faults)
    return ["--machine-id", _word(told, "machine_id", faults), "--join-token-file", f"/{RUN}/{TOKEN}"]


def _url(told: Mapping[str, Any], faults: list[str]) -> str:
    url = told.get("control_url")
    if isinstance(url, str) and re.fullmatch(r"https?://[\x21-\x7e]{1,500}", url):
        try:
            if urlsplit(url).hostname:
                return url
        except ValueError:
            pass
    faults.append("control_url must be the address of the control plane, e.g. https://ml.example.org")
    return ""


def _word(told: Mapping[str, Any], name: str, faults: list[str]) -> str:
    value = told.get(name)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    faults.append(f"{name} must be 1 to 128 letters, digits and . _ : -")
    return ""


def _number(told: Mapping[str, Any], name: str, least: int, most: int, faults: list[str]) -> int | None:
    value = told.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        faults.append(f"{name} must be a whole number from {least} to {most}")
        return None
    return value


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
