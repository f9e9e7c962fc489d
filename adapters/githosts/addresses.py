"""Decides which hosts a repository may be fetched from: a name is resolved once, and every address of it is judged."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lamplighter.errors import Invalid, Unavailable

Lookup = Callable[..., list[Any]]
"""A resolver with the signature of `socket.getaddrinfo`."""

MAX_URL = 2048
_PORTS = {"https": 443, "http": 80}
_PATH = re.compile(r"(?:/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)+/?")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_INSIDE = (".localhost", ".local", ".localdomain", ".internal", ".intranet", ".home.arpa", ".lan", ".corp")

_ALWAYS_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32",
                    "224.0.0.0/3", "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::254/128")
)  # fmt: skip
_NEVER_GLOBAL = tuple(ipaddress.ip_network(n) for n in ("192.88.99.0/24", "fec0::/10", "2001::/23", "5f00::/16"))
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Address:
    """A checked URL. `ip` is the only address to connect to; `host` is for the certificate and the Host header."""

    url: str
    scheme: str
    host: str
    port: int
    ip: str

    @property
    def host_header(self) -> str:
        """The value of the Host header: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def check(url: str, *, allow_private_hosts: bool, lookup: Lookup) -> Address:
    """Takes the URL apart and resolves its host once.

    Raises `Invalid` for a URL that is malformed or leads into a private network, `Unavailable` if the name has no address.
    """
    scheme, host, port = _parts(url, allow_private_hosts)
    ips = _literal(host) or _resolve(host, port, lookup)
    for ip in ips:
        if not acceptable(ip, allow_private_hosts=allow_private_hosts):
            raise refused(
                f"The host {host} leads to {ip}, which is no public address; only public hosts are fetched from."
            )
    first = sorted(ips, key=lambda ip: ip.version)[0]
    return Address(url.rstrip("/"), scheme, host, port, str(first))


def acceptable(ip: _Ip, *, allow_private_hosts: bool) -> bool:
    """Whether a connection to `ip` is allowed. Link-local and metadata addresses never are, in whatever clothing."""
    inner = _embedded(ip)
    if inner is not None:
        return acceptable(inner, allow_private_hosts=allow_private_hosts)
    if _within(ip, _ALWAYS_REFUSED):
        return False
    if allow_private_hosts:
        return True
    return ip.is_global and not ip.is_reserved and not ip.is_multicast and not _within(ip, _NEVER_GLOBAL)


def refused(message: str) -> Invalid:
    """An `Invalid` under the field "url"."""
    return Invalid({"url": [message]})


def _parts(url: str, allow_private_hosts: bool) -> tuple[str, str, int]:
    if len(url) > MAX_URL or not url.isascii() or any(c <= " " or c in '\\"<>\x7f' for c in url):
        raise refused(f"The repository's URL must be at most {MAX_URL} ASCII characters without blanks.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise refused(f"The repository's URL cannot be read: {error}.") from error
    schemes = ("https", "http") if allow_private_hosts else ("https",)
    if parts.scheme not in schemes:
        raise refused(f"The repository's URL must begin with {' or '.join(f'{s}://' for s in schemes)}.")
    if "@" in parts.netloc:
        raise refused(
            "The repository's URL must not hold a user or password; store them as the repository's credentials."
        )
    if "?" in url or "#" in url or not _PATH.fullmatch(parts.path) or {"..", "."} & set(parts.path.split("/")):
        raise refused("The repository's URL needs a plain path, such as https://host/team/project.git.")
    if port == 0 or parts.netloc.endswith(":"):
        raise refused("The repository's URL has no usable port.")
    _check_host(host, allow_private_hosts)
    return parts.scheme, host, port or _PORTS[parts.scheme]


def _check_host(host: str, allow_private_hosts: bool) -> None:
    if ":" in host:
        if "%" in host or _literal(host) is None:
            raise refused("The repository's URL holds a malformed IPv6 address.")
        return
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise refused("The repository's URL names no sound host.")
    if _NUMBER.fullmatch(host.rpartition(".")[2]) and _literal(host) is None:
        raise refused("An address in the repository's URL must have four decimal numbers.")
    if not allow_private_hosts and _literal(host) is None and ("." not in host or host.endswith(_INSIDE)):
        raise refused(f"The host {host} is a name of a private network; only public hosts are fetched from.")


def _literal(host: str) -> list[_Ip] | None:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return None


def _resolve(host: str, port: int, lookup: Lookup) -> list[_Ip]:
    import socket

    try:
        found = lookup(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"The host {host} cannot be resolved ({error}); check the name, or try again.") from error
    ips = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not ips:
        raise Unavailable(f"The host {host} has no address; check the name, or try again.")
    return ips


def _embedded(ip: _Ip) -> _Ip | None:
    """The IPv4 address that an IPv6 address stands for, if any."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip.ipv4_mapped or ip.sixtofour:
        return ip.ipv4_mapped or ip.sixtofour
    if _within(ip, _NAT64) or (ip in _IPV4_COMPATIBLE and int(ip) > 0xFFFF):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.teredo[1] if ip.teredo else None


def _within(ip: _Ip, networks: tuple[Any, ...]) -> bool:
    return any(ip in network for network in networks if network.version == ip.version)
