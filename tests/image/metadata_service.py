"""A cloud's metadata service for one instance, in a network of its own: what containers send to it is forwarded, as on EC2."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.worker.metadata_double import Metadata

ADDRESS = "169.254.169.254"
_INSTANCE_ADDRESS = "169.254.169.249"
_ROLES = "/latest/meta-data/iam/security-credentials/"
_CLONE_NEWNET = 0x40000000


class MetadataService:
    """Listens once `start` has returned, in this process. `interface` is what the instance reaches it by."""

    interface = "imds0"

    def __init__(
        self, instance_id: str, credentials: Callable[[], Mapping[str, str]], *, role: str, region: str
    ) -> None:
        document = {"instanceId": instance_id, "region": region}
        values = {
            "/latest/meta-data/instance-id": instance_id,
            "/latest/meta-data/placement/region": region,
            "/latest/dynamic/instance-identity/document": json.dumps(document),
            _ROLES: role,
        }
        self._values = _Values(values, f"{_ROLES}{role}", credentials)
        self._holder: subprocess.Popen[bytes] | None = None
        self._server: Metadata | None = None

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request that has reached it."""
        return list(self._server.requests) if self._server else []

    def start(self, pid: int) -> None:
        """Connects the network of the process `pid`, which is the instance's first one."""
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        ours = self._holder.pid
        while Path(f"/proc/{ours}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            assert self._holder.poll() is None, "no network of its own can be made: are we root?"
            time.sleep(0.005)
        _in_network(ours, f"ip link add {self.interface} type veth peer name cloud")
        _in_network(ours, f"ip addr add {ADDRESS}/32 dev cloud")
        _in_network(ours, "ip link set cloud up")
        _in_network(ours, f"ip route add {_INSTANCE_ADDRESS}/32 dev cloud")
        thread = threading.Thread(target=self._listen, args=(ours,))
        thread.start()
        thread.join()
        assert self._server is not None, "the metadata service does not listen"
        _in_network(ours, f"ip link set {self.interface} netns {pid}")
        _in_network(pid, f"ip addr add {_INSTANCE_ADDRESS}/32 dev {self.interface}")
        _in_network(pid, f"ip link set {self.interface} up")
        _in_network(pid, f"ip route add {ADDRESS}/32 dev {self.interface}")

    def stop(self) -> None:
        """Repeatable."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            self._holder = None

    def _listen(self, pid: int) -> None:
        """A socket belongs to the network that its thread was in when it was made."""
        network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(network, _CLONE_NEWNET) == 0:
                self._server = Metadata(address=(ADDRESS, 80))
                self._server.values = self._values
        finally:
            os.close(network)


class _Values(dict[str, str]):
    """What the service answers by path; credentials are made for each answer."""

    def __init__(self, values: Mapping[str, str], path: str, credentials: Callable[[], Mapping[str, str]]) -> None:
        super().__init__({**values, path: ""})
        self._path = path
        self._credentials = credentials

    def __getitem__(self, path: str) -> str:
        if path != self._path:
            return super().__getitem__(path)
        now = datetime.now(UTC)
        common = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "Expiration": f"{now + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}",
        }
        return json.dumps({**common, **self._credentials()})


def _in_network(pid: int, command: str) -> None:
    ran = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", *command.split()], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{command}: {ran.stderr.strip()}"
