"""Who calls, as a typed value. It knows no framework: a door that must start quickly reads it too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from functions.messages import Head
from lamplighter.contract.report import Proof
from lamplighter.domain.machines import Machine
from lamplighter.errors import Invalid
from lamplighter.records import Stored
from lamplighter.world import World

if TYPE_CHECKING:
    from lamplighter.domain.projects import Principal

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Call:
    """A request by anybody. `origin` is the scheme, host and port that the client used: every URL we answer starts with it."""

    world: World
    origin: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """An absolute URL of this installation, as this client may call it."""
        return self.origin + path

    def reachable(self, url: str) -> str:
        """A URL that one of our stores has signed, on the host that the client can reach."""
        own = self.world.installation.url
        return self.origin + url.removeprefix(own) if url.startswith(own + "/") else url


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonCall(Call):
    """A request by somebody with a token."""

    principal: Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCall(Call):
    """A request by a machine that wants to register, with a join token or a proof. The use case judges it."""

    credential: str | Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall(Call):
    """A request by an agent whose session is valid."""

    session: str
    stored: Stored[Machine]

    @property
    def machine(self) -> Machine:
        """The agent's machine as it was when the call came in."""
        return self.stored.value


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCall(Call):
    """A request by user code in a run. The use case proves the token."""

    job_token: str


def origin_of(head: Head, installation_url: str, *, behind_proxy: bool) -> str:
    """The address that the client used. Raises `Invalid` for a Host header that is none."""
    scheme, host = head.scheme, head.headers.get("host", "")
    if behind_proxy:
        scheme = _first(head.headers.get("x-forwarded-proto")) or scheme
        host = _first(head.headers.get("x-forwarded-host")) or host
    if not host:
        return installation_url
    if scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise Invalid({"host": ["The Host header is not a host name with an optional port."]})
    return f"{scheme}://{host}"


def _first(header: str | None) -> str:
    return (header or "").split(",")[0].strip()
