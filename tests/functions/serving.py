"""An application behind a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn

from functions.asgi import Application


@contextlib.contextmanager
def serving(application: Application, listener: socket.socket) -> Iterator[str]:
    """Serves what comes in at `listener`; gives the address."""
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()


def address_of(listener: socket.socket) -> str:
    """The address that clients call."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
