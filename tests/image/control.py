"""A control plane in this process, whose machines are instances of the worker's image."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from functions.asgi import Application
from functions.local.background import Background
from functions.local.listening import listen
from functions.settings import Settings
from functions.wiring import wire
from lamplighter.domain.leases import Lease
from lamplighter.domain.machines import Machine
from lamplighter.errors import NotYet
from lamplighter.keys import lease as lease_key
from lamplighter.keys import machine as machine_key
from lamplighter.ports import CloudMachine, LaunchRequest
from lamplighter.records import find
from lamplighter.usecases.initialise import initialise
from tests.bench._stage import archive
from tests.e2e.api import until
from tests.e2e.server import PASSWORD, RunningServer
from tests.image.instance import Instance, bridge_address, user_data

ENVIRONMENT = "image"


class InstanceCloud:
    """Implements `Cloud`: each machine is an instance that `boot` starts from its launch request."""

    def __init__(self, boot: Callable[[LaunchRequest], Any]) -> None:
        self._boot = boot
        self._lock = threading.Lock()
        self.machines: dict[str, Any] = {}
        self._installations: dict[str, str] = {}

    def launch(self, request: LaunchRequest) -> CloudMachine:
        """As the port says; a machine's id is its launch token."""
        with self._lock:
            if request.machine_id not in self.machines:
                self.machines[request.machine_id] = self._boot(request)
                self._installations[request.machine_id] = request.installation
        return self._seen(request.machine_id)

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        """As the port says."""
        return tuple(self._seen(known) for known, owner in self._installations.items() if owner == installation)

    def terminate(self, machine_id: str) -> None:
        """As the port says. A machine that powers off by itself is given the time to."""
        instance = self.machines.get(machine_id)
        if instance is not None and instance.is_on:
            raise NotYet(f"{instance.name} is on")

    def stop(self) -> None:
        """Removes all instances."""
        for instance in self.machines.values():
            instance.stop()

    def _seen(self, machine_id: str) -> CloudMachine:
        instance = self.machines[machine_id]
        return CloudMachine(machine_id, instance.instance_id, "running" if instance.is_on else "gone")


def boot_container(images: Sequence[str] = (), **more: Any) -> Callable[[LaunchRequest], Instance]:
    """Boots containers that are told what their launch request says; takes what `Instance` takes."""

    def boot(request: LaunchRequest) -> Instance:
        return Instance(user_data(**told_to(request)), images=images, **more).start()

    return boot


def told_to(request: LaunchRequest) -> dict[str, Any]:
    """The fields of worker.json for a machine with a join token."""
    told = {"control_url": request.control_url, "installation": request.installation, "input_networks": "any"}
    return {**told, "machine_id": request.machine_id, "join_token": request.join_token, **request.options}


class ControlPlane(RunningServer):
    """The real server, wired as `lamplighter up` wires it, with one more cloud. Ready when `start` returns."""

    def __init__(
        self,
        state: Path,
        cloud: InstanceCloud,
        *,
        host: str = "",
        url_of_machines: str = "",
        options: Mapping[str, Any] | None = None,
        idle_seconds: int = 2,
    ) -> None:
        super().__init__(state, "docker")
        self.cloud = cloud
        self.host = host or bridge_address()
        self.url = f"http://{self.host}:{self.port}"
        self._url_of_machines = url_of_machines.format(port=self.port)
        self._environment_fields = {
            "slug": ENVIRONMENT,
            "name": "Booted",
            "cloud": "instances",
            "max_machines": 1,
            "idle_seconds": idle_seconds,
            "options": dict(options or {}),
        }

    def start(self) -> ControlPlane:
        self.state.mkdir(parents=True)
        listener = listen(self.host, self.port)
        self._background = Background(1.0)
        self.wired = wire(
            Settings(state=self.state, host=self.host, port=self.port, sweep_seconds=1.0),
            self._url_of_machines or self.url,
            nudge=self._background.nudge,
            up_since=time.time(),
            clouds={"instances": self.cloud},
        )
        initialise(admin_password=PASSWORD, environment=self._environment_fields, world=self.wired.world)
        application = Application(self.wired.world, upload_folder=self.wired.uploads, objects=self.wired.objects)
        config = uvicorn.Config(application, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        self.wired.workflow.start_driver()
        self._background.start(self.wired.world)
        until(lambda: self._server.started, "the server answers")
        self.token = self._log_in()
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._background.stop(2.0)
        self._thread.join(10)
        self.wired.workflow.stop_driver()
        self.cloud.stop()
        self.wired.metadata.close()

    def submit(self, image: str, *commands: str) -> dict[str, Any]:
        """A new execution of these commands, in a project of its own."""
        project = self.post("/api/v0/projects/", {"name": f"boot-{uuid.uuid4()}"})["id"]
        step = {"name": "work", "image": image, "command": list(commands)}
        code = archive({"valohai.yaml": json.dumps([{"step": step}]).encode()})
        order = {"project": project, "commit": self._upload(project, code), "step": "work", "environment": ENVIRONMENT}
        made: dict[str, Any] = self.post("/api/v0/executions/", order)
        return made

    def ended_execution(self, execution: Mapping[str, Any], *, seconds: float = 120) -> Any:
        """The execution once it is complete."""
        return self.ended(execution["project"]["id"], execution["counter"], seconds=seconds)

    def machine(self, machine_id: str) -> Machine:
        """What the ledger says of it."""
        found = find(self.wired.world.metadata, Machine, machine_key(machine_id))
        assert found is not None
        return found.value

    def times(self, machine_id: str, execution: Mapping[str, Any]) -> str:
        """Seconds from power-on, for whoever watches; no test depends on them."""
        begun = self.cloud.machines[machine_id].started_at
        lease = find(self.wired.world.metadata, Lease, lease_key(execution["id"]))
        moments = {"registered": self.machine(machine_id).registered_at, "leased": lease and lease.value.granted_at}
        told = [f"{what} after {at.timestamp() - begun:.1f} s" for what, at in moments.items() if at]
        return f"booted, {', '.join(told)}"

    def _upload(self, project: str, code: bytes) -> str:
        head = (
            b'--parts\r\nContent-Disposition: form-data; name="data"; filename="code.tgz"\r\n'
            b"Content-Type: application/gzip\r\n\r\n"
        )
        request = urllib.request.Request(
            f"{self.url}/api/v0/projects/{project}/import-package/",
            b"".join((head, code, b"\r\n--parts--\r\n")),
            {"Content-Type": "multipart/form-data; boundary=parts", "Authorization": f"Token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.loads(answer.read())["identifier"])
