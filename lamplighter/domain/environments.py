"""An environment: a kind of machine on offer, with its cloud, its limits and its price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Environment:
    """Where steps may run. `options` belong to the cloud adapter. Seconds and counts; price in USD per hour."""

    id: str
    organisation_id: str
    slug: str
    name: str
    cloud: str
    ctime: datetime
    description: str = ""
    enabled: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    max_machines: int = 2
    idle_seconds: int = 300
    boot_seconds: int = 900
    lease_seconds: int = 900
    cpus: float | None = None
    memory_mib: int | None = None
    gpu_spec: str = ""
    spot: bool = False
    per_hour_price_usd: Decimal = Decimal("0")
    per_user_queue_quota: int = 0

    def impossible(self, needs: Mapping[str, Any]) -> str | None:
        """Why no machine of this kind can ever run a step with these needs (the `resources` of a step), or None."""
        cpu = _minimum(needs, "cpu")
        memory = _minimum(needs, "memory")
        devices = needs.get("devices") or {}
        if cpu and self.cpus and cpu > self.cpus:
            return f"the step asks for {cpu:g} CPUs and a machine of {self.name} has {self.cpus:g}"
        if memory and self.memory_mib and memory > self.memory_mib:
            return f"the step asks for {memory:g} MiB of memory and a machine of {self.name} has {self.memory_mib}"
        if devices and not self.gpu_spec:
            return f"the step asks for {', '.join(devices)} and a machine of {self.name} has no such device"
        return None


def _minimum(needs: Mapping[str, Any], kind: str) -> float | None:
    wanted = needs.get(kind)
    value = wanted.get("min") if isinstance(wanted, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
