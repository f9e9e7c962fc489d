"""A server over a world in memory, with an administrator who is logged in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.stores.local_disk import LocalDiskStore
from functions.asgi import Application
from lamplighter.usecases.initialise import initialise
from lamplighter.world import World
from tests.doubles import TRAIN_YAML, MemoryStores, SteppingClock, make_world, targz
from tests.functions.asgi_client import Client

PASSWORD = "a long enough password"
BOUNDARY = "parts"


@dataclass
class House:
    """The world, its server, its disk store and a client who is the administrator."""

    world: World
    application: Application
    disk: LocalDiskStore
    uploads: Path
    admin: Client
    stranger: Client

    def project(self, name: str = "mnist") -> dict[str, Any]:
        made = self.admin.post("/api/v0/projects/", {"name": name})
        assert made.status == 201, made.body
        return dict(made.json)

    def commit(self, project_id: str) -> dict[str, Any]:
        archive = targz({"valohai.yaml": TRAIN_YAML, "train.py": b"print(1)\n"})
        made = self.upload(project_id, archive)
        assert made.status == 201, made.body
        return dict(made.json)

    def upload(self, project_id: str, archive: bytes, **more: Any) -> Any:
        return self.admin.call(
            "POST",
            f"/api/v0/projects/{project_id}/import-package/",
            chunks=pieces(package(archive)),
            headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
            **more,
        )

    def execution(self, project_id: str, **more: Any) -> dict[str, Any]:
        commit = self.commit(project_id)
        order = {"project": project_id, "commit": commit["identifier"], "step": "train", **more}
        made = self.admin.post("/api/v0/executions/", order)
        assert made.status == 201, made.body
        return dict(made.json)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = SteppingClock()
    disk = LocalDiskStore(tmp_path / "store", base_url="https://lamplighter.test", signing_key=b"k" * 32, clock=clock)
    world = make_world(now=clock, stores=MemoryStores({"default": disk}))
    world.secrets.put("installation/join-key", "test")
    environment = {"slug": "local", "name": "Local", "cloud": "local"}
    initialise(admin_password=PASSWORD, environment=environment, world=world)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    application = Application(world, upload_folder=uploads, objects=disk)
    stranger = Client(application)
    token = stranger.post("/api/v0/get-token/", {"username": "admin", "password": PASSWORD}).json["token"]
    yield House(world, application, disk, uploads, Client(application, token), stranger)
    application.close()


def package(archive: bytes, *, order: tuple[str, ...] = ("data", "description", "yaml_path")) -> bytes:
    """A multipart body as `vh` sends it, with its parts in this order."""
    heads = {
        "data": b'Content-Disposition: form-data; name="data"; filename="data.tgz"\r\nContent-Type: application/gzip',
        "description": b'Content-Disposition: form-data; name="description"',
        "yaml_path": b'Content-Disposition: form-data; name="yaml_path"',
    }
    bodies = {"data": archive, "description": b"heads/main-0-gabc", "yaml_path": b"valohai.yaml"}
    edge = f"--{BOUNDARY}".encode()
    parts = [edge + b"\r\n" + heads[name] + b"\r\n\r\n" + bodies[name] + b"\r\n" for name in order]
    return b"".join(parts) + edge + b"--\r\n"


def pieces(body: bytes, size: int = 1000) -> list[bytes]:
    """The body cut small, so that boundaries fall anywhere."""
    return [body[at : at + size] for at in range(0, len(body), size)]
