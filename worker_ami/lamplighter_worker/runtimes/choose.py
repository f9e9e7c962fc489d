"""Decides how this machine runs steps."""

from __future__ import annotations

from pathlib import Path

from lamplighter_worker.files import read_json
from lamplighter_worker.runtimes import MachineFault, Runtime
from lamplighter_worker.runtimes.docker import DockerRuntime
from lamplighter_worker.runtimes.docker_cli import engine
from lamplighter_worker.runtimes.process import ProcessRuntime


def choose_runtime(wish: str, session: Path) -> Runtime:
    """`wish` is auto, docker or process; a machine that registered with containers, as the file `session` says, keeps them.

    Raises `MachineFault` when docker is needed and no engine answers.
    """
    known = read_json(session)
    if wish == "auto" and isinstance(known, dict):
        wish = known.get("runtime", wish)
    if wish == "process":
        return ProcessRuntime()
    found = engine()
    if found is not None:
        return DockerRuntime(found)
    if wish == "docker":
        raise MachineFault(
            "no Docker engine answers: start dockerd, or use --runtime process. `docker info` says more."
        )
    return ProcessRuntime()
