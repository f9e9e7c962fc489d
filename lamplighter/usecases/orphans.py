"""Machines with our installation's mark and without a living record: they cost money for nobody."""

from __future__ import annotations

from lamplighter import keys
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.domain.sweeps import SweepMemory
from lamplighter.ports import CloudMachine, Record
from lamplighter.records import stored
from lamplighter.usecases.inventory import Inventory
from lamplighter.usecases.machines import machine_by_cloud_id
from lamplighter.world import World


def find_orphans(
    cloud: str, inventory: Inventory, memory: SweepMemory, *, world: World
) -> tuple[SweepMemory, list[str]]:
    """The memory with what is an orphan now, and the ids to end: those that have been orphans for long enough.

    A second body of a living machine is an orphan too: the one whose cloud id the record does not name.
    """
    now = world.now()
    bodies = [m for m in inventory.machines if m.state != "gone"]
    records = world.metadata.get_many([keys.machine(m.machine_id) for m in bodies])
    found = {m.cloud_id: _name_to_end(cloud, m, records.get(keys.machine(m.machine_id)), world) for m in bodies}
    orphans = {cloud_id: name for cloud_id, name in found.items() if name}
    memory = memory.marked(cloud, orphans, now)
    return memory, [orphans[cloud_id] for cloud_id in memory.due(cloud, len(inventory.machines), now)]


def _name_to_end(cloud: str, body: CloudMachine, record: Record | None, world: World) -> str:
    """What the cloud is told to end: the machine, or this body alone where another is in use. Empty for what is none."""
    machine = stored(Machine, record).value if record else None
    lives = machine is not None and machine.state is not MachineState.GONE
    if machine and lives and machine.cloud_id in ("", body.cloud_id):
        return ""
    owner = machine_by_cloud_id(cloud, body.cloud_id, world=world)
    if owner and owner.value.state is not MachineState.GONE:
        return ""
    return body.cloud_id if lives else body.machine_id
