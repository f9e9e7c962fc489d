"""A way into a run, for the one who holds the key."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.api import until
from tests.e2e.ports import free_port
from tests.e2e.vh import VhHome

# Stands in for the terminal that `vh exec ssh` opens: it notes where it was sent to.
SSH = """#!/bin/sh
echo "$@" > {noted}
"""


def test_the_address_of_the_way_in_is_told_and_the_key_opens_it(anywhere: VhHome, tmp_path: Path) -> None:
    vh = anywhere
    key, port = tmp_path / "k", free_port()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    (tmp_path / "bin").mkdir()
    ssh, noted = tmp_path / "bin" / "ssh", tmp_path / "noted"
    ssh.write_text(SSH.format(noted=noted))
    ssh.chmod(0o755)

    vh.run("slow", "--debug-port", str(port), "--debug-key-file", str(key.with_suffix(".pub")))
    started = vh.started()
    until(lambda: any("ssh" in line.lower() for line in vh.server.events(started, "status")), "the way in is told")
    path = f"{tmp_path / 'bin'}:{vh.environment['PATH']}"
    said = vh("exec", "ssh", "latest", "--private-key-file", str(key), env={"PATH": path}).out

    assert f":{port}" in said
    words = noted.read_text().split()
    assert words[:2] == ["-i", str(key)]
    assert words[3:5] == ["-p", str(port)]
    options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        f"UserKnownHostsFile={tmp_path / 'known'}",
        "-o",
        "BatchMode=yes",
    ]
    inside = subprocess.run(
        ["ssh", *options, *words[:5], "echo inside"], capture_output=True, text=True, timeout=30, check=False
    )
    assert inside.stdout == "inside\n", inside.stderr
    vh("exec", "stop", "latest")
    vh.ended(status="stopped")
