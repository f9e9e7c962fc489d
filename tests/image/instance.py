"""An instance: a container of the worker's image with systemd, cloud-init and a Docker of its own, booted as in a cloud."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.docker import ensure_docker
from tests.image.metadata_service import MetadataService

IMAGE = "lamplighter/worker-machine:test"
CONTROL_GROUPS = "/sys/fs/cgroup"
SEED = "/var/lib/cloud/seed/nocloud"

# The network is the container engine's doing, as it is the cloud's elsewhere.
_NETWORK = "network: {config: disabled}\n"

# Images are there before the agent asks for work, as they are on a machine whose registry is near.
_PRELOAD = "[Service]\nExecStartPost=/bin/sh -c 'for image in /images/*.tar; do docker load -q -i $image; done'\n"

# `--privileged` needs every capability that there is; this is all that systemd and a Docker within need of them.
_RIGHTS = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined"),
    *("--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined"),
    *("--cgroupns", "host", "--tmpfs", "/run", "--tmpfs", "/run/lock", "-v", "/var/lib/docker"),
)


class Instance:
    """One machine. `user_data` is given to cloud-init; `images` are tags of this machine's Docker that it shall have.

    With `credentials` it has a metadata service (version 2 only) that answers root, and would answer containers if nothing kept
    them from it: it calls `credentials` for each answer, which gives the fields AccessKeyId, SecretAccessKey and Token of the
    instance role `role`. Use `start` and `stop`, or as a context manager.
    """

    def __init__(
        self,
        user_data: str,
        *,
        instance_id: str = "",
        images: Sequence[str] = (),
        credentials: Callable[[], Mapping[str, str]] | None = None,
        role: str = "lamplighter-worker",
        region: str = "eu-north-1",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.instance_id = instance_id or f"i-{uuid.uuid4().hex[:17]}"
        self.name = f"lamplighter-{self.instance_id}"
        self.started_at = 0.0
        self._user_data = user_data
        self._images = tuple(images)
        self._labels = {"lamplighter.test-instance": self.instance_id, **(labels or {})}
        self._files = Path()
        self.metadata: MetadataService | None = None
        if credentials is not None:
            self.metadata = MetadataService(self.instance_id, credentials, role=role, region=region)

    def start(self) -> Instance:
        """Powers it on. Returns when its first process runs; `started_at` is that moment (`time.time`)."""
        ensure_docker()
        known = _docker("image", "inspect", IMAGE)
        assert known.returncode == 0, f"there is no image {IMAGE}: run `make worker` as root"
        self._files = Path(tempfile.mkdtemp(prefix="lamplighter-instance-"))
        self._write_seed()
        first = "exec /lib/systemd/systemd"
        if self.metadata is not None:
            # A cloud's network is there before the machine is.
            first = f"until [ -e /sys/class/net/{self.metadata.interface} ]; do sleep 0.02; done; {first}"
        labels = [word for name, value in self._labels.items() for word in ("--label", f"{name}={value}")]
        self.started_at = time.time()
        command = [
            "run",
            "-d",
            "--tty",
            "--name",
            self.name,
            "--hostname",
            self.name,
            *_RIGHTS,
            *_control_groups(),
            *labels,
            *self._mounts(),
        ]
        _checked(*command, IMAGE, "/bin/sh", "-c", first)
        if self.metadata is not None:
            self.metadata.start(int(_checked("inspect", "-f", "{{.State.Pid}}", self.name)))
        return self

    def exec(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command on the instance, as root. Raises `AssertionError` when it fails, unless `check` is false."""
        ran = _docker("exec", self.name, *command)
        said = f"{command} on {self.name}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
        assert not check or ran.returncode == 0, said
        return ran

    def logs(self) -> str:
        """What it has said: its journal while it runs, its console."""
        console = _docker("logs", self.name)
        journal = self.exec("journalctl", "--no-pager", "-n", "300", check=False)
        return f"{console.stdout}{console.stderr}\n--- journal\n{journal.stdout}"

    @property
    def is_on(self) -> bool:
        """Whether it runs: false before `start`, after it has powered off, and after `stop`."""
        return _docker("inspect", "-f", "{{.State.Running}}", self.name).stdout.strip() == "true"

    def wait_off(self, seconds: float = 60.0) -> None:
        """Returns when it has powered off. Raises `AssertionError` with its logs when it does not in time."""
        deadline = time.monotonic() + seconds
        while self.is_on:
            assert time.monotonic() < deadline, f"{self.name} is still on after {seconds:g} s:\n{self.logs()}"
            time.sleep(0.1)

    def power_off(self) -> None:
        """As a cloud ends a machine that it was told to terminate: in order, and by force after 10 s. Repeatable."""
        _docker("kill", "--signal", "SIGRTMIN+4", self.name)
        _docker("stop", "--time", "10", self.name)

    def stop(self) -> None:
        """Removes it with all that it has; repeatable."""
        _docker("rm", "--force", "--volumes", self.name)
        if self.metadata is not None:
            self.metadata.stop()
        if self._files != Path():
            shutil.rmtree(self._files, ignore_errors=True)

    def __enter__(self) -> Instance:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_seed(self) -> None:
        seed = self._files / "seed"
        seed.mkdir()
        (seed / "user-data").write_text(self._user_data)
        (seed / "meta-data").write_text(f"instance-id: {self.instance_id}\n")
        (self._files / "network.cfg").write_text(_NETWORK)
        (self._files / "preload.conf").write_text(_PRELOAD)
        (self._files / "images").mkdir()
        for number, image in enumerate(self._images):
            _checked("save", "-o", str(self._files / "images" / f"{number}.tar"), image)

    def _mounts(self) -> list[str]:
        places = {"seed": SEED, "network.cfg": "/etc/cloud/cloud.cfg.d/99-network.cfg"}
        if self._images:
            places |= {"images": "/images", "preload.conf": "/etc/systemd/system/docker.service.d/preload.conf"}
        return [word for name, place in places.items() for word in ("-v", f"{self._files / name}:{place}:ro")]


def user_data(*, files: Mapping[str, str] | None = None, **told: Any) -> str:
    """The user data of a machine that is told this, as the image's README has it; `files` are written beside, by path."""
    written = [{"path": "/etc/lamplighter/worker.json", "permissions": "0600", "content": json.dumps(told)}]
    written += [{"path": path, "content": content} for path, content in (files or {}).items()]
    return "#cloud-config\n" + json.dumps({"write_files": written})


def bridge_address() -> str:
    """Where instances reach what listens on this machine."""
    ensure_docker()
    config = json.loads(_checked("network", "inspect", "-f", "{{json .IPAM.Config}}", "bridge"))
    told = next((str(part["Gateway"]) for part in config if part.get("Gateway")), "")
    if told:
        return told
    shown = subprocess.run(["ip", "-j", "-4", "addr", "show", "docker0"], capture_output=True, text=True, check=True)
    return str(json.loads(shown.stdout)[0]["addr_info"][0]["local"])


def _control_groups() -> list[str]:
    """This machine's control groups, which systemd there needs too. Where they are many file systems, their directory is its
    own: systemd makes directories for those that it misses, which here would mislead whoever looks for control groups.
    """
    told = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [words[1] for words in told if words[2] in ("cgroup", "cgroup2")]
    binds = [word for place in places for word in ("-v", f"{place}:{place}")]
    return binds if places == [CONTROL_GROUPS] else ["--tmpfs", CONTROL_GROUPS, *binds]


def _docker(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *command], capture_output=True, text=True, timeout=120, check=False)


def _checked(*command: str) -> str:
    ran = _docker(*command)
    assert ran.returncode == 0, f"docker {' '.join(command)}: {ran.stderr.strip()}"
    return ran.stdout.strip()
