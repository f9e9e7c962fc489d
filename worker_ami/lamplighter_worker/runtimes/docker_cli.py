"""The docker command line, never through a shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamplighter_worker.runtimes import MachineFault

_AWAY = (
    "Cannot connect to the Docker daemon",
    "Is the docker daemon running",
    "error during connect",
    "connection refused",
)
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answered."""

    version: str
    gpus: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


def engine() -> Engine | None:
    """The engine of this machine, or None when there is none or it does not answer."""
    if shutil.which("docker") is None:
        return None
    for _ in range(3):
        answer = _call(["info", "--format", "{{json .}}"], {}, 20.0)
        try:
            told = json.loads(answer.out)
        except ValueError:
            told = {}
        if answer.code == 0 and told.get("ServerVersion"):
            return Engine(str(told["ServerVersion"]), "nvidia" in (told.get("Runtimes") or {}))
        time.sleep(0.3)
    return None


def docker(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    config: str | None = None,
) -> Answer:
    """Runs a command to its end. An engine that is away is waited for, for a minute.

    Raises `MachineFault` when it does not come back. Only for commands that may be repeated.
    """
    command = (["--config", config] if config else []) + list(arguments)
    deadline = time.monotonic() + _PATIENCE
    while True:
        answer = _call(command, environment or {}, timeout)
        if not is_away(answer):
            return answer
        if time.monotonic() >= deadline:
            raise MachineFault(f"the Docker engine of this machine does not answer: {answer.err.strip()[:300]}")
        time.sleep(1.0)


def is_away(answer: Answer) -> bool:
    """The engine did not answer, whatever was asked."""
    return answer.code != 0 and any(text in answer.err for text in _AWAY)


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """What the engine knows of an image or a container; None when there is no such thing."""
    answer = docker([kind, "inspect", "--", name])
    if answer.code != 0:
        return None
    found = json.loads(answer.out)
    return dict(found[0]) if found else None


def clean_environment() -> dict[str, str]:
    """What the command line needs of the agent's own environment."""
    wanted = (
        "PATH",
        "HOME",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "DOCKER_CERT_PATH",
        "DOCKER_TLS_VERIFY",
        "XDG_RUNTIME_DIR",
    )
    return {name: os.environ[name] for name in wanted if name in os.environ}


def _call(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> Answer:
    try:
        done = subprocess.run(
            ["docker", *command],
            env={**clean_environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"docker {command[0]}: no answer within {timeout:.0f} s; Is the docker daemon running")
    except OSError as e:
        raise MachineFault(f"the docker command cannot be run: {e}") from e
    return Answer(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
