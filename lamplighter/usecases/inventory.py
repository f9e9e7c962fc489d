"""What a cloud says is there, asked once and compared with many records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from lamplighter.domain.machines import Machine
from lamplighter.ports import CloudMachine
from lamplighter.world import World

VISIBLE_AFTER = timedelta(minutes=2)
"""A cloud may hide a new machine for a while; only after this long does its absence prove anything."""


class Inventory:
    """One whole answer of a cloud. A machine is found by the cloud's own id once that is known, by our id before."""

    def __init__(self, machines: Sequence[CloudMachine]) -> None:
        self.machines = tuple(machines)
        self._by_cloud_id = {m.cloud_id: m for m in machines}
        self._by_id = {m.machine_id: m for m in machines}

    def body_of(self, machine: Machine) -> CloudMachine | None:
        """What the cloud shows for this record, if anything."""
        if machine.cloud_id:
            return self._by_cloud_id.get(machine.cloud_id)
        return self._by_id.get(machine.id)

    def certainly_gone(self, machine: Machine, *, world: World) -> bool:
        """The cloud says that it is gone, or has not shown it for so long after its registration that it must be.

        One that is stopped counts too: it works no more. Its work moves on only after the cloud has ended it.
        """
        body = self.body_of(machine)
        if body:
            return body.state in ("stopped", "gone")
        return machine.registered_at is not None and world.now() - machine.registered_at >= VISIBLE_AFTER

    def why_gone(self, machine: Machine) -> str:
        """The cloud's own words, if it has any."""
        body = self.body_of(machine)
        return (body.detail if body else "") or "its cloud says that it is gone"


def ask(cloud: str, *, world: World) -> Inventory:
    """What this cloud has of this installation. Raises what the cloud raises, and `KeyError` for a cloud that is not there."""
    return Inventory(world.clouds[cloud].describe(world.installation.id))
