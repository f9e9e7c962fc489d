"""What the installation says of itself, to anybody."""

from __future__ import annotations

from functions.presentation.common import Shape
from functions.routes.base import new_router
from functions.routes.callers import Anybody
from functions.version import VERSION

router = new_router()


class Server(Shape):
    """Which server this is. `flavor` tells notebook extensions which dialect of the API is spoken."""

    flavor: str
    name: str
    version: str


class Health(Shape):
    """The server answers, and its metadata did too."""

    status: str


@router.get("/api/v0/server/", operation_id="getServer", tags=["server"], summary="Which server this is")
def get_server(call: Anybody) -> Server:  # noqa: ARG001
    return Server(flavor="valohai", name="lamplighter", version=VERSION)


@router.get("/api/health/", operation_id="getHealth", tags=["server"], summary="Whether the server works")
def get_health(call: Anybody) -> Health:
    call.world.metadata.query("installation", limit=1)
    return Health(status="ok")
