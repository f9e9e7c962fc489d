"""A leased job: everything an agent needs to run one execution, and the leases that fence it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Runtime = Literal["docker", "process"]
"""How user code runs: in a container, or as a plain process on a machine without a container engine."""


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """Which grant of an execution a writer holds. `generation` rises with each restore of the metadata, `n` with each grant.

    A write under an older epoch changes nothing: it is answered with `stale_epoch`, and the agent stops its container.
    """

    generation: int
    n: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.n}"


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP call the agent may make: a presigned URL, or a plain one. `headers` are sent as they are."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Code:
    """The repository as a gzip tar. `call` is None when the agent must ask for inputs again to get a fresh one."""

    call: Call
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a run, in seconds, MiB and counts; None or 0 means no bound."""

    time_limit: int | None = None
    no_output_timeout: int | None = None
    stop_grace: int = 15
    memory_mib: int | None = None
    cpus: float | None = None
    pids: int | None = 4096


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Credentials for pulling the image; only ever kept in the agent's memory and in a file deleted after the pull."""

    registry: str
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Job:
    """One execution, leased to one agent under one epoch.

    `script` is the whole command, already interpolated, for `/bin/sh -c`. `environment` holds the user's variables, secrets
    included. `config` holds the contents of `/valohai/config/<name>.json` for the names parameters, execution, runtime and api
    (the agent composes `inputs` itself after fetching). `next_seq` is the sequence number of the first event to send.
    `stop_condition` is an expression over metadata (see `expressions`). `secrets` lists values that must
    never appear in a log line.
    """

    execution_id: str
    project_id: str
    counter: int
    epoch: Epoch
    lease_seconds: int
    next_seq: int
    code: Code
    image: str
    script: str
    environment: Mapping[str, str]
    config: Mapping[str, Any]
    limits: Limits
    stop_condition: str | None = None
    secrets: tuple[str, ...] = ()
    registry: RegistryLogin | None = None
    debug_port: int | None = None
    debug_key: str | None = None


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of an input. `call` is None for on-demand files; `path` is relative to the input's directory."""

    name: str
    path: str
    uri: str
    call: Call | None
    size: int | None = None
    datum_id: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    metadata: tuple[Mapping[str, Any], ...] = ()
    cache_key: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """An input with its files resolved. `input_id` is what user code passes back to ask for an on-demand file."""

    name: str
    input_id: str
    files: tuple[InputFile, ...]
