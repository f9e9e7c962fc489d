"""A way in for the owner of a run: an SSH server of the agent's own user that knows one key."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lamplighter.contract.job import Job
from lamplighter_worker.environment import local_address
from lamplighter_worker.files import write_atomically

_ANSWER_SECONDS = 5.0
_EMPTY = Path("/run/sshd")
"""Where the server of root locks its unprivileged part in; missing when the service never ran."""

# In a container there need be no SSH server: the machine's own leads into it.
_INTO_CONTAINER = """#!/bin/sh
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec docker exec -i {name} /bin/sh -c "$SSH_ORIGINAL_COMMAND"; fi
if [ -t 0 ]; then exec docker exec -it {name} /bin/sh; fi
exec docker exec -i {name} /bin/sh
"""


class Door:
    """Opened when the job asks for it and the machine has an SSH server; else the log says why not."""

    def __init__(self, directory: Path, job: Job, container: str | None) -> None:
        self._directory = directory / "ssh"
        self._port = job.debug_port
        self._key = job.debug_key
        self._container = container
        self._server: subprocess.Popen[bytes] | None = None

    def open(self, say: Callable[[str], None]) -> None:
        """Says the address in the log once the server answers."""
        if not self._port or not self._key:
            return
        search = "/usr/sbin:/usr/local/sbin:/usr/bin"
        server = shutil.which("sshd") or shutil.which("sshd", path=search)
        keygen = shutil.which("ssh-keygen")
        if server is None or keygen is None:
            say("SSH is not available: there is no SSH server on this machine. Install openssh-server in its image.")
            return
        try:
            self._serve(server, keygen)
        except (OSError, subprocess.SubprocessError, KeyError) as e:
            say(f"SSH is not available: the SSH server did not start ({e}).")
            return
        if self._answers():
            say("::ssh::" + json.dumps({"address": local_address() or "127.0.0.1", "port": self._port}))
        else:
            said = (self._directory / "log").read_text(errors="replace").strip().rpartition("\n")[2][-300:]
            say(
                f"SSH is not available: the SSH server does not answer on port {self._port}. It said: {said or 'nothing'}"
            )
            self.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
            self._server = None

    def _serve(self, server: str, keygen: str) -> None:
        self._end_earlier()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        if os.getuid() == 0:
            _EMPTY.mkdir(mode=0o755, exist_ok=True)
        host_key = self._directory / "host_key"
        if not host_key.exists():
            command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        write_atomically(self._directory / "keys", (self._key or "").encode() + b"\n")
        write_atomically(self._directory / "config", self._config(host_key).encode())
        command = [server, "-D", "-e", "-f", str(self._directory / "config")]
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _end_earlier(self) -> None:
        """The server of an agent that was killed would keep the port."""
        config = str(self._directory / "config").encode()
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and config in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGTERM)
                    time.sleep(0.2)

    def _config(self, host_key: Path) -> str:
        import getpass

        lines = [
            f"Port {self._port}",
            f"HostKey {host_key}",
            f"AuthorizedKeysFile {self._directory / 'keys'}",
            f"AllowUsers {getpass.getuser()}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "AllowTcpForwarding no",
            "X11Forwarding no",
        ]
        if self._container:
            script = self._directory / "enter"
            write_atomically(script, _INTO_CONTAINER.format(name=self._container).encode())
            lines.append(f"ForceCommand /bin/sh {script}")
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline and self._server is not None and self._server.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self._port or 0), timeout=1) as connection:
                    return connection.recv(4) == b"SSH-"
            except OSError:
                time.sleep(0.1)
        return False
