"""Servers that tests start as processes of their own, and how they end."""

from __future__ import annotations

import subprocess

END_SECONDS = 10


def end(process: subprocess.Popen[bytes] | None) -> None:
    """In order, and by force after END_SECONDS; nothing to end is no error."""
    if process is None:
        return
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
