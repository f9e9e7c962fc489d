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
from urllib.parse import urlsplit

from functions.local.listening import address, listen
from functions.local.state import StateLock
from functions.settings import Settings
from functions.version import VERSION

if TYPE_CHECKING:
    from functions.wiring import Wired
    from lamplighter.domain.machines import MachineState

LOCAL_ENVIRONMENT = "local"
IN_FLIGHT_SECONDS = 3
PUT_OUT_SECONDS = 4.0
HARD_LIMIT_SECONDS = 9.5

_log = logging.getLogger(__name__)


def up(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises `Unavailable` or `Invalid` when it cannot start."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    lock = StateLock(settings.state, {"version": VERSION})
    with contextlib.closing(listen(settings.host, settings.port)) as listener:
        url = settings.url or address(settings.host, listener.getsockname()[1])
        lock.tell({"url": url, "version": VERSION})
        code = _serve(settings, listener, url, lock.last_url)
    lock.release(url)
    return code


def _serve(settings: Settings, listener: socket.socket, url: str, last_url: str) -> int:
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
    if last_url not in ("", url):
        _warn_of_runs_at(last_url, settings, url, wired)
    _run(application, listener, lambda: _greet(settings, url, password, runtime))
    _put_out(wired)
    background.stop(1.0)
    wired.workflow.stop_driver()
    wired.metadata.close()
    print("Lamplighter has stopped.", flush=True)
    return 0


def _prepare(settings: Settings, wired: Wired) -> tuple[str | None, str]:
    """Make the installation at the first start; the password that was made up for it, and the runtime of steps."""
    from lamplighter.usecases import environments
    from lamplighter.usecases.initialise import initialise

    world = wired.world
    options: dict[str, Any] = {"runtime": _runtime(settings), "input_networks": settings.input_networks}
    fields: dict[str, Any] = {"max_machines": settings.max_machines, "idle_seconds": settings.idle_seconds}
    first = {
        "slug": LOCAL_ENVIRONMENT,
        "name": "This server",
        "cloud": "local",
        "options": options,
        **fields,
        **_size(),
    }
    made = initialise(admin_password=settings.admin_password or None, environment=first, world=world)
    environment = environments.get_environment(None, LOCAL_ENVIRONMENT, world=world)
    if not made.created:
        changes = {name: value for name, value in fields.items() if name in settings.given}
        # What an operator has set stands; what nobody knows yet, this server knows.
        changes |= {name: value for name, value in _size().items() if getattr(environment, name) is None}
        wanted = {**environment.options, **{k: v for k, v in options.items() if k in settings.given}}
        changes |= {"options": wanted} if wanted != environment.options else {}
        if changes:
            environment = environments.update_environment(None, LOCAL_ENVIRONMENT, changes, world=world)
    return made.generated_password, str(environment.options.get("runtime", "docker"))


def _size() -> dict[str, Any]:
    """What this server has, so that a step which asks for more is refused and does not wait for ever."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return {"cpus": float(os.cpu_count() or 1), "memory_mib": memory}


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
    from lamplighter.domain.machines import MachineState
    from lamplighter.usecases import machines

    machines.retire_idle(world=wired.world)
    wired.world.nudge()
    deadline = time.monotonic() + PUT_OUT_SECONDS
    while time.monotonic() < deadline and _machines_that_are(MachineState.DRAINING, wired):
        time.sleep(0.05)
    busy = _machines_that_are(MachineState.BUSY, wired)
    if busy:
        count = "1 machine works" if busy == 1 else f"{busy} machines work"
        print(
            f"{count} on: runs go on, and report when a server is back on {wired.world.installation.url}.", flush=True
        )


def _warn_of_runs_at(last_url: str, settings: Settings, url: str, wired: Wired) -> None:
    """A machine that works reports to where the server was when it was launched."""
    from lamplighter.domain.machines import MachineState

    busy = _machines_that_are(MachineState.BUSY, wired)
    if not busy:
        return
    then, now = urlsplit(last_url), urlsplit(url)
    same_host = not settings.url and then.port and (then.scheme, then.hostname) == (now.scheme, now.hostname)
    runs, keep, begin = (
        ("1 run still reports", "it", "it begins") if busy == 1 else (f"{busy} runs still report", "them", "they begin")
    )
    how = f"with --port {then.port}" if same_host else "at that address"
    print(f"{runs} to {last_url}: start {how} to keep {keep}, or {begin} anew in about 5 minutes.", flush=True)


def _machines_that_are(state: MachineState, wired: Wired) -> int:
    from lamplighter import keys
    from lamplighter.domain.machines import Machine
    from lamplighter.records import find_many, walk
    from lamplighter.usecases import environments

    metadata = wired.metadata
    return sum(
        stored.value.state is state
        for environment in environments.list_environments(None, world=wired.world)
        for stored in find_many(
            metadata, Machine, [keys.machine(row.key.sort) for row in walk(metadata, keys.machines(environment.id))]
        )
    )
