"""The unmodified `vh`, in a home of its own, and the few things that the demo reads from the REST API with its token."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

_LOG_LINE = re.compile(r"(\d\d:\d\d:\d\d)\.\d+ (.*)")
_CREATED = re.compile(r"#(\d+)")
COMMAND_SECONDS = 120


class CommandFailed(Exception):
    """A step of the demo went wrong; the text says which and why."""


class Vh:
    """Call it with the words after `vh`. The user's own configuration of `vh` is neither read nor written."""

    def __init__(self, program: Path, place: Path, url: str) -> None:
        self._program = program
        self._url = url
        self._config = place / "vh"
        self._config.mkdir()
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(place),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1",
            "VALOHAI_CONFIG_DIR": str(self._config),
        }

    def __call__(self, *words: str, folder: Path) -> str:
        """What the command printed. Raises `CommandFailed`."""
        try:
            ended = subprocess.run(
                [self._program, *words],
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandFailed(f"vh {' '.join(words[:2])}: {error}") from error
        said = ended.stdout + ended.stderr
        if ended.returncode != 0:
            raise CommandFailed(f"vh {' '.join(words[:2])} ended with {ended.returncode}:\n{said[-2000:]}")
        return said

    def run(self, step: str, *arguments: str, folder: Path) -> int:
        """Send the folder as it is and run a step of it; the number of the execution."""
        said = self("exec", "run", "--adhoc", step, *arguments, folder=folder)
        found = _CREATED.search(said)
        if not found:
            raise CommandFailed(f"vh exec run said nothing about an execution:\n{said}")
        return int(found.group(1))

    def show_log(self, counter: int, *, folder: Path) -> None:
        """Print the log while it grows, until the execution has ended."""
        command = [str(self._program), "exec", "logs", "--stream", str(counter)]
        with subprocess.Popen(
            command,
            cwd=folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as streaming:
            for line in streaming.stdout or ():
                found = _LOG_LINE.match(line)
                if found and found.group(2).strip():
                    print(f"   {found.group(1)}  {_readable(found.group(2).strip())[:140]}", flush=True)
        if streaming.returncode != 0:
            raise CommandFailed(f"vh exec logs --stream {counter} ended with {streaming.returncode}")

    def execution(self, counter: int) -> dict[str, Any]:
        """All that the server tells of an execution of the linked project."""
        project = next(iter(self._known()["links"].values()))["id"]
        return self.get(f"/api/v0/executions/{project}:{counter}/")

    def get(self, path: str) -> dict[str, Any]:
        """An answer of the REST API."""
        headers = {"Authorization": f"Token {self._known()['token']}", "Accept": "application/json"}
        request = urllib.request.Request(f"{self._url}{path}", headers=headers)  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
        except OSError as error:
            raise CommandFailed(f"GET {path}: {error}") from error
        return found

    def _known(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads((self._config / "config.json").read_text())
        return known


def _readable(line: str) -> str:
    """A line of metrics as words, any other line as it is."""
    try:
        point = json.loads(line)
    except ValueError:
        return line
    return "  ".join(f"{k} {v}" for k, v in point.items()) if isinstance(point, dict) else line
