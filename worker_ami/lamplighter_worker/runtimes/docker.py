"""Runs a step in a container, by the docker command line."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamplighter.contract.job import Job
from lamplighter.contract.job import Runtime as RuntimeName
from lamplighter.errors import Invalid
from lamplighter_worker.files import write_atomically
from lamplighter_worker.runtimes import DIRECTORIES, Ended, MachineFault, Prepared, Spec
from lamplighter_worker.runtimes.docker_arguments import HOME, create_arguments, environment_for
from lamplighter_worker.runtimes.docker_cli import Engine, clean_environment, docker, inspect
from lamplighter_worker.runtimes.docker_pull import bring_image

_SIOCGIFADDR = 0x8915
_GONE = "No such container"


class DockerRuntime:
    """The output goes through a detached `docker start --attach` into files, so it survives the agent."""

    name: RuntimeName = "docker"

    def __init__(self, engine: Engine) -> None:
        self.detail = f"docker {engine.version}" + (", GPUs" if engine.gpus else "")
        self._gpus = engine.gpus
        self._gateway: str | None = None

    def visible(self, directory: Path) -> dict[str, str]:  # noqa: ARG002 - the same for every run
        return {name: f"{HOME}/{name}" for name in DIRECTORIES}

    def base_environment(self, directory: Path) -> dict[str, str]:  # noqa: ARG002 - the image has its own
        return {}

    def gateway(self) -> str | None:
        # Asked once: only an engine that is set up anew changes it, and no run survives that.
        self._gateway = self._gateway or self._bridge_address()
        return self._gateway

    def _bridge_address(self) -> str | None:
        network = inspect("network", "bridge") or {}
        configs = (network.get("IPAM") or {}).get("Config") or []
        told = [str(config["Gateway"]) for config in configs if config.get("Gateway")]
        interface = (network.get("Options") or {}).get("com.docker.network.bridge.name", "docker0")
        return told[0] if told else _address_of(interface)

    def prepare(self, job: Job, say: Callable[[str], None], check: Callable[[], None]) -> Prepared:
        check()
        if not job.image or job.image.startswith("-"):
            raise Invalid.because(f"{job.image[:200]!r} is no image name. Write e.g. python:3.12.")
        return Prepared(image_digest=bring_image(job, say, check))

    def start(self, spec: Spec) -> DockerRun:
        variables = environment_for(spec.environment)
        env_file = spec.directory / "environment"
        write_atomically(env_file, variables.lines.encode("utf-8", "replace"))
        memory = spec.job.limits.memory_mib or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        arguments = create_arguments(
            spec,
            environment=variables,
            env_file=str(env_file),
            user=(os.getuid(), os.getgid()),
            gpus=self._gpus,
            shm_mib=memory // 2,
        )
        try:
            answer = docker(arguments, environment=variables.by_name)
        finally:
            env_file.unlink(missing_ok=True)
        if answer.code != 0:
            raise Invalid.because(f"The container could not be created: {answer.err.strip()[-500:]}")
        return DockerRun(spec, _follow("start", spec))

    def adopt(self, spec: Spec, say: Callable[[str], None]) -> DockerRun | None:
        found = inspect("container", spec.name)
        if found is None or not _is_ours(found, spec):
            return None
        follower = _follower_of(spec.name)
        status = found["State"]["Status"]
        if status == "created" and follower is None and not found["State"].get("Error"):
            docker(["rm", "--force", "--", spec.name])
            return None
        if status in ("running", "paused") and follower is None:
            return DockerRun(spec, _reattached(spec, say))
        return DockerRun(spec, follower)

    def sweep(self, machine_id: str, keep: str | None) -> None:
        command = ["ps", "--all", "--format", "{{.Names}}", "--filter", f"label=lamplighter.machine={machine_id}"]
        for name in docker(command).out.split():
            if name != keep:
                docker(["rm", "--force", "--volumes", "--", name])


class DockerRun:
    """`follower` is the command that copies the output to the files, or its process id when an earlier agent started it."""

    def __init__(self, spec: Spec, follower: subprocess.Popen[bytes] | int | None) -> None:
        self._spec = spec
        self._follower = follower
        self._signalled = False

    def poll(self) -> Ended | None:
        if self._follows():
            return None
        found = inspect("container", self._spec.name)
        if found is None:
            return Ended(None, lost=True, note="the container vanished from this machine")
        state: dict[str, Any] = found["State"]
        if state["Status"] in ("running", "paused", "restarting"):
            # The copying command died, or the engine restarted under a container that lives on.
            self._follower = _follow("attach", self._spec)
            time.sleep(0.2)
            return None
        if state["Status"] == "created" and not state.get("Error"):
            raise MachineFault("the container engine did not start the container")
        return _ended(state, self._spec.job)

    def signal(self, number: signal.Signals) -> None:
        self._signalled = True
        docker(["kill", f"--signal={int(number)}", "--", self._spec.name], timeout=30.0)

    def remove(self) -> None:
        answer = docker(["rm", "--force", "--volumes", "--", self._spec.name], timeout=60.0)
        if answer.code != 0 and _GONE not in answer.err:
            raise MachineFault(f"the container {self._spec.name} could not be removed: {answer.err.strip()[:300]}")
        if isinstance(self._follower, subprocess.Popen):
            self._follower.wait()

    def _follows(self) -> bool:
        if isinstance(self._follower, subprocess.Popen):
            return self._follower.poll() is None
        return self._follower is not None and self._follower == _follower_of(self._spec.name)


def _follow(verb: str, spec: Spec) -> subprocess.Popen[bytes]:
    """The command that copies the container's output, in a session of its own: it outlives the agent."""
    options = ["--attach"] if verb == "start" else ["--no-stdin", "--sig-proxy=false"]
    try:
        with (spec.directory / "stdout").open("ab") as out, (spec.directory / "stderr").open("ab") as err:
            return subprocess.Popen(
                ["docker", verb, *options, spec.name],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
    except OSError as e:
        raise MachineFault(f"the docker command cannot be run: {e}") from e


def _reattached(spec: Spec, say: Callable[[str], None]) -> subprocess.Popen[bytes]:
    say("The log was interrupted: what the run printed while nobody copied its output is lost.")
    return _follow("attach", spec)


def _follower_of(name: str) -> int | None:
    """The process that copies the output of container `name`, whoever started it."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            name.encode() in words
            and (b"start" in words[:2] or b"attach" in words[:2])
            and words[0].endswith(b"docker")
        ):
            return int(entry.name)
    return None


def _address_of(interface: str) -> str | None:
    """The IPv4 address of a network interface: some engines do not tell their bridge's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", interface[:15].encode()))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def _is_ours(found: dict[str, Any], spec: Spec) -> bool:
    labels = found["Config"].get("Labels") or {}
    wanted = {"execution": spec.job.execution_id, "epoch": str(spec.job.epoch), "machine": spec.machine_id}
    return all(labels.get(f"lamplighter.{name}") == value for name, value in wanted.items())


def _ended(state: dict[str, Any], job: Job) -> Ended:
    code = int(state.get("ExitCode", -1))
    error = str(state.get("Error") or "").strip()
    if state.get("OOMKilled"):
        return Ended(code, out_of_memory=True)
    if not error:
        return Ended(code)
    if "/bin/sh" in error and ("no such file" in error or "not found" in error):
        return Ended(code, note=f"the image {job.image} has no /bin/sh, so no command can be run in it")
    return Ended(code, note=f"the container could not be started: {error[-500:]}")
