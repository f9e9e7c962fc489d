"""The image that steps name in tests: Python with the real valohai-utils, built on this machine without a registry."""

from __future__ import annotations

import subprocess

from tests.docker import ensure_docker
from tests.e2e.server import ROOT

IMAGE = "lamplighter/python-utils:3.11"


def ensure_image() -> str:
    """The image's tag; built when it is not there yet. Raises `AssertionError` with what went wrong."""
    ensure_docker()
    known = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, timeout=60, check=False)
    if known.returncode != 0:
        script = str(ROOT / "infra" / "images" / "build.sh")
        built = subprocess.run([script, IMAGE], capture_output=True, text=True, timeout=600, check=False)
        assert built.returncode == 0, f"{script} {IMAGE}: {built.stdout}{built.stderr}"
    return IMAGE
