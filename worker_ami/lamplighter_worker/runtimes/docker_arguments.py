"""What a container of a run may and may not do, as arguments of `docker create`: pure, so that the policy can be tested."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lamplighter.errors import Invalid
from lamplighter_worker.runtimes import DIRECTORIES, Spec
from lamplighter_worker.runtimes.process import TRAP

HOME = "/valohai"
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}")
_LONGEST_LINE = 60_000
_LONGEST_SCRIPT = 120_000
_NAME = re.compile(r"[^\s=\0#][^\s=\0]*")

# The command line reads these itself: they may not be set for it to the user's values.
_COMMAND_LINE_READS = re.compile(
    r"(?i)(PATH|HOME|HTTPS?_PROXY|NO_PROXY|ALL_PROXY|(DOCKER|LD|GO|SSL|BUILDKIT|OTEL|XDG)_?.*)"
)


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables of a run: those given as a file of lines, and those given by name from the command's own environment."""

    lines: str
    by_name: Mapping[str, str] = field(default_factory=dict)


def environment_for(variables: Mapping[str, str]) -> Environment:
    """Raises `Invalid` naming a variable that no container can be given."""
    lines, by_name = [], {}
    for name, value in variables.items():
        if not _NAME.fullmatch(name) or "\0" in value:
            raise Invalid.because(f"The environment variable {name[:100]!r} cannot be given to a container.")
        if "\n" not in value and "\r" not in value and len(value.encode("utf-8", "replace")) < _LONGEST_LINE:
            lines.append(f"{name}={value}\n")
        elif _COMMAND_LINE_READS.fullmatch(name) or len(value.encode("utf-8", "replace")) > _LONGEST_SCRIPT:
            raise Invalid.because(f"The environment variable {name!r} cannot hold so long a text or line breaks.")
        else:
            by_name[name] = value
    return Environment("".join(lines), by_name)


def create_arguments(
    spec: Spec, *, environment: Environment, env_file: str, user: tuple[int, int], gpus: bool = False, shm_mib: int = 64
) -> list[str]:
    """The arguments after `docker`. Raises `Invalid` for an image or script that cannot be given as one.

    The container sees its run's four directories and nothing else of this machine, has no capability and cannot gain one.
    """
    job, limits = spec.job, spec.job.limits
    if not _IMAGE.fullmatch(job.image):
        raise Invalid.because(f"{job.image[:200]!r} is no image name. Write e.g. python:3.12.")
    script = f"{TRAP}\nunset VALOHAI_PORT\n{job.script}"
    if len(script.encode("utf-8", "replace")) > _LONGEST_SCRIPT or "\0" in script:
        raise Invalid.because(
            f"The command is longer than {_LONGEST_SCRIPT} bytes. Put it in a file of the repository."
        )
    labels = {"execution": job.execution_id, "epoch": str(job.epoch), "machine": spec.machine_id}
    arguments = ["create", f"--name={spec.name}", "--pull=never", "--init", "--log-driver=none"]
    arguments += [f"--label=lamplighter.{name}={value}" for name, value in labels.items()]
    arguments += ["--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={user[0]}:{user[1]}"]
    arguments += ["--network=bridge", "--ipc=private", f"--shm-size={max(64, shm_mib)}m", "--restart=no"]
    if limits.memory_mib:
        memory = max(6, limits.memory_mib)
        arguments += [f"--memory={memory}m", f"--memory-swap={memory}m"]
    if limits.cpus:
        arguments.append(f"--cpus={limits.cpus:.2f}")
    if limits.pids:
        arguments.append(f"--pids-limit={limits.pids}")
    if gpus:
        arguments.append("--gpus=all")
    arguments += [_mount(spec, name) for name in DIRECTORIES]
    arguments += [f"--env-file={env_file}", "--env=TINI_KILL_PROCESS_GROUP=1"]
    if user[0] != 0 and "HOME" not in job.environment:
        arguments.append("--env=HOME=/tmp")
    arguments += [f"--env={name}" for name in environment.by_name]
    arguments += [f"--workdir={HOME}/repository", "--entrypoint=/bin/sh", "--", job.image, "-c", script]
    return arguments


def _mount(spec: Spec, name: str) -> str:
    source = os.path.join(spec.directory, name)
    if any(c in source for c in ',"\n'):
        raise Invalid.because(f"The agent's directory {source!r} must not hold commas or quotes: give another --dir.")
    return f"--mount=type=bind,source={source},target={HOME}/{name}"
