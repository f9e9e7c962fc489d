"""Decides how this machine runs steps."""

from __future__ import annotations

from lamplighter_worker.runtimes import MachineFault, Runtime
from lamplighter_worker.runtimes.docker import DockerRuntime
from lamplighter_worker.runtimes.docker_cli import engine
from lamplighter_worker.runtimes.process import ProcessRuntime


def choose_runtime(wish: str) -> Runtime:
    """`wish` is auto, docker or process. Raises `MachineFault` when docker is wished for and no engine answers."""
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
