"""A container engine for tests, and an image that is built from what the machine has."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

IMAGE = "lamplighter-test-busybox:1"
"""busybox as every command it knows; built here, never pulled."""


def ensure_docker() -> None:
    """Starts dockerd if it is installed and does not answer, once among parallel tests; builds `IMAGE`.

    Raises `RuntimeError` with one line that says what to install.
    """
    if shutil.which("docker") is None:
        raise RuntimeError("docker is not installed: run `make setup`")
    with (Path(tempfile.gettempdir()) / "lamplighter-test-docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers():
            _start()
        if _docker("image", "inspect", IMAGE).returncode != 0:
            _import(IMAGE)


def _answers() -> bool:
    return _docker("info").returncode == 0


def _start() -> None:
    if shutil.which("dockerd") is None:
        raise RuntimeError("dockerd is not installed and no Docker engine answers: run `make setup`")
    log = Path(tempfile.gettempdir()) / "lamplighter-test-dockerd.log"
    with log.open("ab") as out:
        subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    deadline = time.monotonic() + 60
    while not _answers():
        if time.monotonic() > deadline:
            raise RuntimeError(f"dockerd does not start, see {log}")
        time.sleep(0.1)


def _import(image: str) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RuntimeError("busybox is not installed: run `make setup`")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("valohai", 0o755)):
            member = tarfile.TarInfo(directory)
            member.type, member.mode = tarfile.DIRTYPE, mode
            tar.addfile(member)
        tar.add(os.path.realpath(busybox), "bin/busybox")
        for name in names:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    done = subprocess.run(["docker", "import", "-", image], input=out.getvalue(), capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the test image could not be made: {done.stderr.decode()}")


def _docker(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *arguments], capture_output=True, check=False)
