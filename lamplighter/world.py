"""Everything a use case may touch, bundled once by whoever wires the application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from lamplighter.domain.environments import Environment
from lamplighter.ports import Blueprints, Clock, Cloud, GitHost, Identity, Metadata, NewId, Secrets, Stores, Workflow


def _nobody() -> None:
    """Nobody waits for a nudge."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is true of this installation as a whole. Seconds.

    `generation` is the first half of every epoch. `url` is the address clients use, without a trailing slash. `up_since` is when
    this control plane began to listen (Unix seconds): no machine is fenced for a silence that began while we were away.
    An idle machine asks for work every `poll_seconds`, and as seldom as every `longest_poll_seconds` the longer it has been idle.
    `live_logs` asks every agent for a batch each second or two, which costs nothing on one server. `worker_url` is where
    agents call, if that is not `url`. `max_machines` caps the machines of all environments together, 0 for none;
    `daily_budget_usd` is what machines may cost from one midnight UTC to the next before no more are started.
    """

    id: str
    url: str
    generation: int = 1
    up_since: float = 0.0
    heartbeat_seconds: float = 20.0
    poll_seconds: float = 1.0
    longest_poll_seconds: float = 1.0
    deadman_seconds: float = 1800.0
    presign_seconds: int = 900
    max_upload_bytes: int = 1000 * 1024 * 1024
    live_logs: bool = True
    worker_url: str = ""
    max_machines: int = 0
    daily_budget_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class World:
    """The ports, the clock and the ids. `clouds` and `identities` go by the cloud's name. `nudge` tells the outbox that
    something was written: for speed, never for correctness. `offer_checks`, by the cloud's name too, raise `LaunchRefused` for
    an environment that the cloud would never launch a machine of; a world may lack them, and then the launch tells.
    """

    installation: Installation
    metadata: Metadata
    stores: Stores
    clouds: Mapping[str, Cloud]
    workflow: Workflow
    secrets: Secrets
    blueprints: Blueprints
    git: GitHost
    now: Clock
    new_id: NewId
    identities: Mapping[str, Identity] = field(default_factory=dict)
    nudge: Callable[[], None] = field(default=_nobody)
    offer_checks: Mapping[str, Callable[[Environment], None]] = field(default_factory=dict)
