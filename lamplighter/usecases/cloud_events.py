"""What a cloud tells us unasked. For speed only: every event may be lost, come twice, late or forged; the sweep is right alone."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from lamplighter.domain.machines import MachineState
from lamplighter.errors import NotYet
from lamplighter.records import Stored, again_on_conflict
from lamplighter.usecases.inventory import ask
from lamplighter.usecases.lease_job import retirement
from lamplighter.usecases.machines import machine_by_cloud_id, put_out_and_settle
from lamplighter.world import World


def machine_gone(cloud: str, cloud_id: str, *, world: World) -> None:
    """The cloud is said to have ended this machine: if it confirms that, its work moves on now. Repeatable.

    No error for a machine that is not ours, or gone already; nothing is done while the cloud still shows it, since an event
    alone proves nothing. Raises what the cloud raises when asked (`Throttled`, `Unavailable`): repeat, or leave it to the sweep.
    """
    stored = machine_by_cloud_id(cloud, cloud_id, world=world)
    if not stored or stored.value.state is MachineState.GONE or cloud not in world.clouds:
        return
    inventory = ask(cloud, world=world)
    if inventory.certainly_gone(stored.value, world=world):
        with suppress(NotYet):  # the rest is its state machine's, or the sweep's
            put_out_and_settle(stored.value.id, f"it vanished: {inventory.why_gone(stored.value)}", world=world)


@again_on_conflict
def spot_notice(cloud: str, cloud_id: str, kind: Literal["interruption", "rebalance"], *, world: World) -> None:
    """The cloud wants this machine back, soon ("rebalance") or within two minutes ("interruption"). Repeatable; notices only
    grow graver; no error for a machine that is not ours.

    From now on it is given no new job. One without a job, booting ones included, is put out at once. One with a job keeps it:
    `Machine.notice` tells whoever answers its agent. After a rebalance notice the job may end as it would have, since the risk
    is a guess; after an interruption the agent is to wind up, since the end is certain.
    """
    stored = machine_by_cloud_id(cloud, cloud_id, world=world)
    if not stored or stored.value.state in (MachineState.DRAINING, MachineState.GONE):
        return
    noticed = stored.value.noticed(kind)
    if noticed.state is not MachineState.BUSY:
        leaving = Stored(stored.key, stored.version, noticed)
        world.metadata.transact(retirement(leaving, f"its cloud gave notice: {kind}", world))
        world.nudge()
    elif noticed != stored.value:
        world.metadata.transact([stored.becomes(noticed)])
