"""Brings an image onto the machine, with its progress in the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamplighter.contract.job import Job, RegistryLogin
from lamplighter.errors import Invalid
from lamplighter_worker.environment import is_on
from lamplighter_worker.files import write_atomically
from lamplighter_worker.runtimes.docker_cli import Answer, clean_environment, docker, inspect, is_away

_SAY_SECONDS = 3.0
_TICK = 0.1
_DONE = ("Pull complete", "Already exists")
_TRANSIENT = ("timeout", "TLS handshake", "connection reset", "EOF", "toomanyrequests", "503", "502", "i/o")
_ATTEMPTS = 3


def bring_image(job: Job, say: Callable[[str], None], check: Callable[[], None]) -> str:
    """The digest of the job's image, pulled if it is not there. `check` is called often and may raise to leave.

    Raises `Invalid` with the registry's words when it cannot be had, `MachineFault` when the engine is away.
    """
    found = inspect("image", job.image)
    if found is not None and not is_on(job, "VH_NO_IMAGE_CACHE"):
        return _digest(found)
    say(f"Pulling image {job.image}")
    answer = _pull(job, say, check)
    here = inspect("image", job.image)
    if answer.code == 0 and here is not None:
        say(f"Pulled image {job.image}")
        return _digest(here)
    reason = (answer.err.strip() or answer.out.strip() or "no reason was given")[-500:]
    if here is not None:
        say(f"Image {job.image} could not be pulled ({reason}). The one on this machine is used.")
        return _digest(here)
    raise Invalid.because(f"Image {job.image} could not be pulled: {reason}")


def _pull(job: Job, say: Callable[[str], None], check: Callable[[], None]) -> Answer:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="lamplighter-pull-") as directory:
        config = None
        if job.registry is not None:
            config = directory
            write_atomically(Path(directory) / "config.json", _login(job.registry))
        for attempt in range(_ATTEMPTS):
            answer = _pull_once(job.image, config, directory, say, check)
            away = is_away(answer)
            if answer.code == 0 or not (away or any(text in answer.err for text in _TRANSIENT)):
                return answer
            if away:
                docker(["version"])
            elif attempt + 1 < _ATTEMPTS:
                _pause(2.0 * (attempt + 1), check)
        return answer


def _pull_once(
    image: str, config: str | None, directory: str, say: Callable[[str], None], check: Callable[[], None]
) -> Answer:
    command = ["docker", *(["--config", config] if config else []), "pull", "--", image]
    out, err = Path(directory) / "out", Path(directory) / "err"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file
        )
        said_at = time.monotonic()
        try:
            while process.poll() is None:
                check()
                if time.monotonic() - said_at >= _SAY_SECONDS:
                    said_at = time.monotonic()
                    say(_progress(image, out))
                time.sleep(_TICK)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait()
    return Answer(process.returncode, _text(out), _text(err))


def _progress(image: str, out: Path) -> str:
    lines = _text(out).splitlines()
    layers = {line.partition(":")[0] for line in lines if "Pulling fs layer" in line or "Already exists" in line}
    done = {line.partition(":")[0] for line in lines if any(word in line for word in _DONE)}
    return f"Pulling image {image}: {len(done & layers)} of {len(layers)} layers"


def _login(login: RegistryLogin) -> bytes:
    """What `docker login` would leave behind, without a call to the registry."""
    import base64

    token = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    registry = login.registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    key = "https://index.docker.io/v1/" if registry in ("", "docker.io", "index.docker.io") else registry
    return json.dumps({"auths": {key: {"auth": token}}}).encode()


def _digest(image: dict[str, Any]) -> str:
    digests = image.get("RepoDigests") or []
    return str(digests[0]) if digests else str(image.get("Id", ""))


def _text(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 1_000_000))
        return file.read().decode("utf-8", "replace")


def _pause(seconds: float, check: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        check()
        time.sleep(_TICK)
