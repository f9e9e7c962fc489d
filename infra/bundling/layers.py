"""Third-party layers: what the lock file pins, for Lambda's Python and processor, without what no function reads."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from code_of import Unbuildable
from plan import Layer

PLATFORMS = {"arm64": "aarch64-manylinux2014", "x86_64": "x86_64-manylinux2014"}

_NEVER_READ = ("__pycache__", "tests", "test", "*.pyi", "direct_url.json", "RECORD", "INSTALLER", "REQUESTED", "bin")
"""Names that Lambda never needs. Licences and package metadata stay."""


def fill(folder: Path, layer: Layer, *, lock: Path, python: str, architecture: str) -> None:
    """Install the layer's packages with what they need below `folder`, from wheels alone. Raises `Unbuildable`."""
    wanted = folder.parent / f"{folder.name}.txt"
    wanted.write_text("\n".join(layer.packages) + "\n")
    pinned = folder.parent / f"{folder.name}.lock"
    target = ("--python-version", python, "--python-platform", PLATFORMS[architecture])
    _uv(
        "pip",
        "compile",
        "-q",
        "--no-header",
        "--generate-hashes",
        *target,
        "-c",
        str(lock),
        "-o",
        str(pinned),
        str(wanted),
    )
    _uv(
        *("pip", "install", "-q", "--require-hashes", "--no-deps", "--only-binary", ":all:", *target),
        *("--target", str(folder), "-r", str(pinned)),
    )
    _prune(folder, layer)


def _prune(folder: Path, layer: Layer) -> None:
    for pattern in _NEVER_READ:
        for path in sorted(folder.rglob(pattern), reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for package in ("botocore", "boto3"):
        data = folder / package / "data"
        for service in sorted(p for p in data.glob("*") if p.is_dir()):
            if service.name not in layer.services:
                shutil.rmtree(service)
    for examples in folder.glob("boto*/**/examples*.json*"):
        examples.unlink()


def _uv(*arguments: str) -> None:
    done = subprocess.run(["uv", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = re.sub(r"https?://\S+", "the package index", done.stderr.strip())[-1500:]
        raise Unbuildable(
            f"`uv {' '.join(arguments[:2])}` failed: {said}\nIs the package index reachable (PIP_INDEX_URL)?"
        )
