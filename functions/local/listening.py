"""The socket that a server listens on, and in words why there is none."""

from __future__ import annotations

import errno
import socket

from lamplighter.errors import Unavailable

_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def listen(host: str, port: int) -> socket.socket:
    """Listen there; port 0 takes any free one. Raises `Unavailable` saying whether the address or the port is at fault."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # asyncio sends small answers at once only on sockets that say they are TCP; on others each costs a delayed ack, 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(512)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        raise Unavailable(_why(host, port, error)) from error
    return listener


def address(host: str, port: int) -> str:
    """Where this very machine reaches the server: an address that means "everywhere" is none to connect to."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _why(host: str, port: int, error: OSError | UnicodeError) -> str:
    said = getattr(error, "strerror", None) or str(error)
    if isinstance(error, socket.gaierror | UnicodeError) or error.errno in _NOT_OURS:
        return f"The address {host} cannot be used ({said}): choose one of this machine with --host."
    return (
        f"Port {port} on {host} cannot be used ({said}): "
        "stop what listens there, or choose another with --port (0 takes any free one)."
    )
