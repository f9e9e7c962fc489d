"""Decides whether this machine may fetch a URL, and pins the address it was decided for.

A name is resolved once; the connection then goes to the address that was checked, so that a second answer of the name
server cannot lead elsewhere. The Host header and the TLS server name stay those of the URL.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from lamplighter.errors import Invalid, Unavailable

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPConnection

Networks = Literal["public", "private", "any"]
"""Where inputs may come from: global addresses only; also the private LAN, never loopback, link-local or a cloud's
metadata service; or anywhere."""

NETWORKS: tuple[Networks, ...] = ("public", "private", "any")

_LAN = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
# Metadata services, host agents and special ranges that Python calls global, or that lie in the LAN's.
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "fd00:ec2::/32",
            "fd20:ce::/32",
            "fd00:c1::/32",
            "5f00::/16",
        ),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}
_UNQUOTED = "/%:=&?~+!$,;'@()*[]-._"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked URL: where to connect, and what to say there. `authorization` comes from the URL's own user and password."""

    scheme: str
    host: str
    port: int
    addresses: tuple[str, ...]
    target: str
    authorization: str | None

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"


def check(url: str, networks: str) -> Endpoint:
    """Where `url` may be fetched from.

    Raises `Invalid` for a URL that is malformed, names no host that exists, or lies on a network that `networks` does not
    allow; `Unavailable` when the name server does not answer (repeat later).
    """
    parts, port = _split(url)
    host = _ascii_host(parts)
    addresses = _resolve(host, port, safe_url(url))
    allowed = addresses if _checked_networks(networks) == "any" else tuple(_allowed(addresses, networks))
    if not allowed:
        who = host if host == addresses[0] else f"{host} is {addresses[0]}, which"
        kind = "a public address" if networks == "public" else "a public address or one of the LAN"
        raise Invalid.because(
            f"{safe_url(url)} cannot be fetched: {who} is not {kind}, and this environment allows only those"
            " (option input_networks)"
        )
    target = quote(parts.path, safe=_UNQUOTED) or "/"
    if parts.query:
        target += "?" + quote(parts.query, safe=_UNQUOTED)
    return Endpoint(parts.scheme.lower(), host, port, allowed, target, _authorization(parts))


def connect(endpoint: Endpoint, timeout: float) -> HTTPConnection:
    """A connection to one of the checked addresses, the first that answers; it never connects anew by itself.

    Raises `OSError` when none answers, `ssl.SSLCertVerificationError` when the host is not who it says.
    """
    from http.client import HTTPConnection

    plain = _dial(endpoint, timeout)
    try:
        sock = _tls().wrap_socket(plain, server_hostname=endpoint.host) if endpoint.scheme == "https" else plain
    except BaseException:
        plain.close()
        raise
    connection = HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
    connection.sock = sock
    connection.auto_open = 0
    return connection


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs share scheme, host and port."""
    try:
        (a, a_port), (b, b_port) = _split(one), _split(other)
    except Invalid:
        return False
    return (a.scheme.lower(), a.hostname, a_port) == (b.scheme.lower(), b.hostname, b_port)


def safe_url(url: str) -> str:
    """The URL without user, password, query and fragment: fit for logs and messages."""
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(malformed URL)"
    return "".join(c if c.isprintable() else "?" for c in f"{parts.scheme}://{place}{parts.path}")[:500]


def _dial(endpoint: Endpoint, timeout: float) -> socket.socket:
    for address in endpoint.addresses[:-1]:
        try:
            return socket.create_connection((address, endpoint.port), timeout)
        except OSError:
            continue
    return socket.create_connection((endpoint.addresses[-1], endpoint.port), timeout)


@cache
def _tls() -> ssl.SSLContext:
    import ssl  # loaded only where https is spoken: it is most of the agent's memory

    return ssl.create_default_context()


def _split(url: str) -> tuple[SplitResult, int]:
    if any(ord(c) < 32 or ord(c) == 127 for c in url):
        raise Invalid.because(f"{safe_url(url)} holds control characters: write the URL without them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid.because(f"{safe_url(url)} is not a URL ({error}): check its host and port") from None
    if parts.scheme.lower() not in _PORTS:
        raise Invalid.because(f"{safe_url(url)} cannot be fetched: only http and https URLs can")
    if not parts.hostname:
        raise Invalid.because(f"{safe_url(url)} names no host")
    return parts, port if port is not None else _PORTS[parts.scheme.lower()]


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise Invalid.because(f"{host!a} is not a host name") from None


def _resolve(host: str, port: int, shown: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise Invalid.because(f"{shown} cannot be fetched: there is no host {host}") from None
        raise Unavailable(f"{shown}: the name {host} could not be resolved ({error.strerror})") from None
    except (UnicodeError, OSError) as error:
        raise Invalid.because(f"{shown} cannot be fetched: {host!a} is not a host name ({error})") from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def _checked_networks(networks: str) -> Networks:
    if networks not in NETWORKS:
        raise ValueError(f"networks is {networks!r}, not one of {NETWORKS}")
    return networks


def _allowed(addresses: Iterable[str], networks: str) -> Iterable[str]:
    for text in addresses:
        if _may(ipaddress.ip_address(text.partition("%")[0]), lan=networks == "private"):
            yield text


def _may(address: _Address, *, lan: bool) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _may(address.ipv4_mapped, lan=lan)
        if address in _NAT64:
            return _may(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), lan=lan)
        if address.sixtofour is not None or address.teredo is not None:
            return False  # tunnels that could lead to any IPv4 address
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    if lan and any(address in network for network in _LAN if network.version == address.version):
        return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
