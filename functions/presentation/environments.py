"""Environments, as clients read them."""

from __future__ import annotations

from functions.presentation.common import Shape
from lamplighter.domain.environments import Environment


class EnvironmentInShort(Shape):
    """The environment of an execution."""

    id: str
    name: str
    slug: str


class EnvironmentShape(EnvironmentInShort):
    """A kind of machine on offer. The price is USD per hour; `unfinished_job_count` is 0 unless it was asked for."""

    description: str
    enabled: bool
    type: str
    spot: bool
    gpu_spec: str
    cpus: float | None
    memory_mib: int | None
    max_machines: int
    per_hour_price_usd: str
    per_user_queue_quota: int
    unfinished_job_count: int
    supports_priority: bool


def environment(value: Environment, unfinished: int = 0) -> EnvironmentShape:
    """A row of the list, or the whole: there is no more to tell."""
    return EnvironmentShape(
        id=value.id,
        name=value.name,
        slug=value.slug,
        description=value.description,
        enabled=value.enabled,
        type=value.cloud,
        spot=value.spot,
        gpu_spec=value.gpu_spec,
        cpus=value.cpus,
        memory_mib=value.memory_mib,
        max_machines=value.max_machines,
        per_hour_price_usd=str(value.per_hour_price_usd),
        per_user_queue_quota=value.per_user_queue_quota,
        unfinished_job_count=unfinished,
        supports_priority=True,
    )
