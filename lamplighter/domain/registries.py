"""Image registries that ask for credentials, and which of them an image comes from."""

from __future__ import annotations

from dataclasses import dataclass

DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry by its address (`registry.example.org:5000`), and whose account pulls. The password is among the secrets."""

    address: str
    organisation_id: str
    username: str
    secret_name: str


def registry_of(image: str) -> str:
    """The address that an engine pulls `image` from: what stands before the first slash if it can be a host, else Docker Hub.

    The rule is the Docker engine's own: a first part with a dot, a colon, or the name localhost is a host.
    """
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first.lower() if is_host and first.lower() not in ("index.docker.io", "registry-1.docker.io") else DOCKER_HUB
