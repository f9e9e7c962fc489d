"""`lamplighter up`: one server with everything in it, from the first line it prints to an orderly end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from functions.local.state import StateLock
from functions.settings import Settings
from functions.version import VERSION
from lamplighter.errors import Unavailable

if TYPE_CHECKING:
    from functions.wiring import Wired

LOCAL_ENVIRONMENT = "local"
IN_FLIGHT_SECONDS = 3
PUT_OUT_SECONDS = 4.0
HARD_LIMIT_SECONDS = 9.5

_log = logging.getLogger(__name__)


def up(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises `Unavailable` or `Invalid` when it cannot start."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    lock = StateLock(settings.state, {"version": VERSION})
    with contextlib.closing(_listen(settings)) as listener:
        url = settings.url or _address(settings.host, listener.getsockname()[1])
        lock.tell({"url": url, "version": VERSION})
        code = _serve(settings, listener, url)
    lock.release()
    return code


def _serve(settings: Settings, listener: socket.socket, url: str) -> int:
    # These load most of what there is: not before the port and the folder are ours.
    from functions.asgi import Application
    from functions.local.background import Background
    from functions.wiring import wire

    background = Background(settings.sweep_seconds)
    wired = wire(settings, url, nudge=background.nudge, up_since=time.time())
    password, runtime = _prepare(settings, wired)
    application = Application(
        wired.world, upload_folder=wired.uploads, objects=wired.objects, behind_proxy=settings.behind_proxy
    )
    wired.workflow.start_driver()
    background.start(wired.world)
    _run(application, listener, lambda: _greet(settings, url, password, runtime))
    _put_out(wired)
    background.stop(1.0)
    wired.workflow.stop_driver()
    wired.metadata.close()
    print("Lamplighter has stopped.", flush=True)
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sends small answers at once only on sockets that say they are TCP; on others each costs a delayed ack, 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Port {settings.port} on {settings.host} cannot be used ({error.strerror}): "
            "stop what listens there, or choose another with --port (0 takes any free one)."
        ) from error
    return listener


def _address(host: str, port: int) -> str:
    """Where this very machine reaches the server: an address that means "everywhere" is none to connect to."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _prepare(settings: Settings, wired: Wired) -> tuple[str | None, str]:
    """Make the installation at the first start; the password that was made up for it, and the runtime of steps."""
    from lamplighter.usecases import environments
    from lamplighter.usecases.initialise import initialise

    world = wired.world
    options: dict[str, Any] = {"runtime": _runtime(settings), "input_networks": settings.input_networks}
    fields: dict[str, Any] = {"max_machines": settings.max_machines, "idle_seconds": settings.idle_seconds}
    first = {"slug": LOCAL_ENVIRONMENT, "name": "This server", "cloud": "local", "options": options, **fields}
    made = initialise(admin_password=settings.admin_password or None, environment=first, world=world)
    environment = environments.get_environment(None, LOCAL_ENVIRONMENT, world=world)
    if not made.created:
        changes = {name: value for name, value in fields.items() if name in settings.given}
        wanted = {**environment.options, **{k: v for k, v in options.items() if k in settings.given}}
        changes |= {"options": wanted} if wanted != environment.options else {}
        if changes:
            environment = environments.update_environment(None, LOCAL_ENVIRONMENT, changes, world=world)
    return made.generated_password, str(environment.options.get("runtime", "docker"))


def _runtime(settings: Settings) -> str:
    if settings.runtime != "auto":
        return settings.runtime
    return "docker" if docker_works() else "process"


def docker_works() -> bool:
    """Whether the docker client is here and its daemon answers us."""
    try:
        found = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0


def _run(application: Any, listener: socket.socket, ready: Any) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to us, so that an orderly end is exit code 0."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    server = Server(
        uvicorn.Config(
            application,
            log_config=None,
            log_level="warning",
            lifespan="off",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=IN_FLIGHT_SECONDS,
        )
    )

    def end(*_: object) -> None:
        if not server.should_exit:
            threading.Thread(target=_give_up, daemon=True).start()
        server.should_exit = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server.run(sockets=[listener])


def _give_up() -> None:
    """Whatever still hangs then, a hung disk or a hung cloud, must not keep the service manager waiting."""
    time.sleep(HARD_LIMIT_SECONDS)
    _log.warning("something did not stop in time: ending without it; nothing accepted is lost")
    os._exit(0)


def _greet(settings: Settings, url: str, password: str | None, runtime: str) -> None:
    how = "in Docker containers" if runtime == "docker" else "as plain processes, without containers"
    lines = [
        f"Lamplighter {VERSION} is ready.",
        f"  Open      {url}/",
        f"  Log in    vh login --host {url} --username admin",
        *([f"  Password  {password}   (of the user admin; shown only now)"] if password else []),
        f"  Steps     run {how}",
        f"  Data      {settings.state}",
    ]
    print("\n".join(lines), flush=True)


def _put_out(wired: Wired) -> None:
    """Machines that do nothing go out with us; those with a job go on, and are waited for when a server is back."""
    from lamplighter import keys
    from lamplighter.domain.machines import Machine, MachineState
    from lamplighter.records import find, walk
    from lamplighter.usecases import environments, machines

    world = wired.world

    def there() -> list[Machine]:
        found = []
        for environment in environments.list_environments(None, world=world):
            for row in walk(world.metadata, keys.machines(environment.id)):
                stored = find(world.metadata, Machine, keys.machine(row.key.sort))
                found += [stored.value] if stored else []
        return found

    machines.retire_idle(world=world)
    world.nudge()
    deadline = time.monotonic() + PUT_OUT_SECONDS
    while time.monotonic() < deadline and any(m.state is MachineState.DRAINING for m in there()):
        time.sleep(0.05)
    busy = [m for m in there() if m.state is MachineState.BUSY]
    if busy:
        count = "1 machine works" if len(busy) == 1 else f"{len(busy)} machines work"
        print(
            f"{count} on: runs go on, and report when a server is back on {wired.world.installation.url}.", flush=True
        )
