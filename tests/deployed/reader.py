"""Somebody who reads the pages for AWS in a fresh clone and pastes their commands, one block after the other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.documented import ROOT, Block
from tests.emulators.ministack import Ministack

BLOCK_SECONDS = 300
INSTALLED = (".venv", ".cache")
"""What setup has installed into this clone need not be installed a second time."""

_GENERATED = re.compile(r"^ *Password +(\S+)", re.MULTILINE)


class Reader:
    """Their clone is `clone`, a copy of what is in this one, and `parameters` are what they have put into samconfig.toml.

    `said` is what all blocks printed so far. `path` are folders of programs that a reader has.
    """

    def __init__(self, aws: Ministack, folder: Path, parameters: dict[str, str], *path: Path) -> None:
        self.clone = folder / "clone"
        self.said = ""
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        _copy_clone(self.clone)
        values = " ".join(f'{name}=\\"{value}\\"' for name, value in parameters.items())
        with (self.clone / "samconfig.toml").open("a") as config:
            config.write(f'parameter_overrides = "{values}"\n')
        self._environment = {
            **aws.environment,
            "PATH": ":".join([*map(str, path), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "SAM_CLI_TELEMETRY": "0",
            "LAMBDA_PYTHON": parameters["PythonRuntime"].removeprefix("python"),
            "LAMBDA_ARCHITECTURE": parameters["Architecture"],
        }
        self._prepared: dict[str, str] = {}

    def paste(self, block: Block) -> str:
        """What the block printed. Raises `AssertionError` with it when a command failed."""
        if block.prepares:
            self._prepared[block.page] = self._prepared.get(block.page, "") + block.text
        script = f"set -eEuo pipefail\n{self._prepared.get(block.page, '')}{'' if block.prepares else block.text}"
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=self.clone,
            env=self._environment,
            input=f"{self._answer(block)}\n" * 5,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
            start_new_session=True,
        )
        self.said += ran.stdout
        assert ran.returncode == 0, f"{block}: {ran.returncode}\n{block.text}\n{ran.stdout[-8000:]}"
        return ran.stdout

    def _answer(self, block: Block) -> str:
        if block.answer != "PASSWORD":
            return block.answer
        return str(_GENERATED.findall(self.said)[-1])


def _copy_clone(there: Path) -> None:
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, there / name)
    for name in INSTALLED:
        (there / name).symlink_to(ROOT / name)
