"""The real `vh`, with a home of its own, logged in, in a folder that is linked to a project of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.api import Api
from tests.e2e.server import CLIENTS

SAMPLE = Path(__file__).parent / "sample"


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said: `out` is both streams, `stdout` one of them."""

    code: int
    stdout: str
    stderr: str

    @property
    def out(self) -> str:
        return self.stdout + self.stderr


class VhHome:
    """Call it with the words after `vh`. Commands must succeed unless `fails` says otherwise."""

    def __init__(self, server: Api, home: Path) -> None:
        self.server = server
        self.home = home
        self.folder = home / "project"
        self.config = home / "config"
        self.project = ""
        self.config.mkdir(parents=True)
        shutil.copytree(SAMPLE, self.folder, ignore=shutil.ignore_patterns("__pycache__"))

    def log_in(self) -> VhHome:
        """What `vh login` and `vh project create --link` leave behind, without the seconds that they take."""
        made = self.server.post("/api/v0/projects/", {"name": f"sample-{uuid.uuid4()}"})
        me = self.server.get("/api/v0/users/me/")
        self.project = made["id"]
        known = {"host": self.server.url, "token": self.server.token, "user": me, "verify_ssl": True}
        known["links"] = {str(self.folder): made}
        (self.config / "config.json").write_text(json.dumps(known))
        return self

    def __call__(
        self,
        *words: str,
        fails: bool = False,
        env: dict[str, str] | None = None,
        folder: Path | None = None,
        seconds: float = 90,
    ) -> Ran:
        ended = subprocess.run(
            [str(CLIENTS / "vh"), *words],
            cwd=folder or self.folder,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        ran = Ran(ended.returncode, ended.stdout, ended.stderr)
        assert (ran.code != 0) == fails, f"vh {' '.join(words)} ended with {ran.code}:\n{ran.out}"
        return ran

    def popen(self, *words: str) -> subprocess.Popen[str]:
        """The command while it runs."""
        return subprocess.Popen(
            [str(CLIENTS / "vh"), *words],
            cwd=self.folder,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str) -> int:
        """`vh exec run --adhoc ...`; the counter of the execution."""
        said = self("exec", "run", "--adhoc", *words).out
        found = re.search(r"Execution #(\d+) created", said)
        assert found, said
        return int(found.group(1))

    def table(self, *words: str) -> Any:
        """What `--table-format json` prints."""
        return json.loads(self("--table-format", "json", *words).stdout)

    def ended(self, counter: int | str = "latest", **how: Any) -> Any:
        return self.server.ended(self.project, counter, **how)

    def started(self, counter: int | str = "latest") -> Any:
        return self.server.started(self.project, counter)

    def execution(self, counter: int | str = "latest") -> Any:
        return self.server.execution(self.project, counter)

    def output(self, execution: dict[str, Any], name: str) -> bytes:
        """The bytes of the one output of this name."""
        found = [datum for datum in self.server.outputs(execution) if datum["name"] == name]
        assert len(found) == 1, f"{len(found)} outputs are called {name}"
        return self.server.content(found[0])

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join([str(CLIENTS), os.environ.get("PATH", os.defpath)]),
            "HOME": str(self.home),
            "VALOHAI_CONFIG_DIR": str(self.config),
            "LANG": "C.UTF-8",
            "COLUMNS": "250",
            "BROWSER": "true",
        }
