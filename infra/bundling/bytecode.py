"""Bytecode for the Python that Lambda will run: a bundle without it is compiled anew at every cold start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# The folder of a function is read-only, and dates in a reproducible zip say nothing: the hash is written, never checked.
_COMPILE = """
import compileall, py_compile, sys
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(sys.argv[1], quiet=2, invalidation_mode=unchecked, stripdir=sys.argv[1])
"""


def interpreter(version: str) -> str | None:
    """A Python of this minor version on this machine, e.g. for "3.13"; None when there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None if found.returncode == 0 else None


def compile_tree(folder: Path, python: str) -> None:
    """Add `__pycache__` files below `folder`; sources that this Python cannot read stay without."""
    subprocess.run([python, "-I", "-c", _COMPILE, str(folder)], check=False, capture_output=True)
