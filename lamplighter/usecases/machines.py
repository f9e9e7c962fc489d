"""A machine's life as its state machine walks it: launch, work, put out, settle; and its sudden end."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import datetime

from lamplighter import keys
from lamplighter.contract.report import Farewell
from lamplighter.domain.capacity import Pool
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.errors import Conflict, LaunchRefused, NoCapacity
from lamplighter.intents import intend, record
from lamplighter.ports import ABSENT, LaunchRequest, Put, Write
from lamplighter.records import Stored, again_on_conflict, find, need, walk
from lamplighter.usecases.finish_execution import lose_attempt
from lamplighter.usecases.fleet import installation_pool, settled_cost
from lamplighter.usecases.lease_job import retirement
from lamplighter.usecases.sessions import digest
from lamplighter.world import World


def launch_machine(machine_id: str, token: str, *, world: World) -> None:
    """Note the waiting state's token and the join token, then ask the cloud, always with the same launch token.

    Raises what the cloud raises. A machine that was given up meanwhile is not launched.
    """
    stored = _note_token(machine_id, token, (MachineState.REQUESTED,), world)
    if not stored:
        return
    machine = stored.value
    cloud = world.clouds.get(machine.cloud)
    if not cloud:
        because = f"environment {machine.environment_slug} names the cloud {machine.cloud!r}, which is not configured"
        raise LaunchRefused(because)
    try:
        launched = cloud.launch(launch_request(machine, world=world))
    except (NoCapacity, LaunchRefused) as error:
        # Whoever waits is told this; the state machine only knows the error's name.
        _retire(machine.id, f"{error.code}: {error}"[:500], world, launch_failure=error.code)
        raise
    know_cloud_id(machine.id, launched.cloud_id, world=world)


def launch_request(machine: Machine, *, world: World) -> LaunchRequest:
    """What the cloud is asked for: the same in every try, whatever has changed meanwhile."""
    return LaunchRequest(
        launch_token=machine.id,
        machine_id=machine.id,
        installation=world.installation.id,
        environment=machine.environment_slug,
        control_url=world.installation.worker_url or world.installation.url,
        join_token=join_token(machine.id, world=world) if _joins(machine, world) else "",
        options=machine.options,
        requested_at=machine.requested_at,
        gpu_spec=machine.gpu_spec,
    )


@again_on_conflict
def know_cloud_id(machine_id: str, cloud_id: str, *, world: World) -> None:
    """Note what the cloud calls this machine, both ways. The first answer stays; a machine that is gone is left alone."""
    stored = need(world.metadata, Machine, keys.machine(machine_id), f"machine {machine_id}")
    if stored.value.cloud_id or stored.value.state is MachineState.GONE:
        return
    key = keys.cloud_machine(stored.value.cloud, cloud_id)
    known = world.metadata.get(key)
    index = Put(key, {"machine_id": machine_id}, known.version if known else ABSENT)
    world.metadata.transact([stored.becomes(replace(stored.value, cloud_id=cloud_id)), index])


def machine_by_cloud_id(cloud: str, cloud_id: str, *, world: World) -> Stored[Machine] | None:
    """The machine that this cloud calls so, or None: it never was ours, is gone, or its launch was answered a moment ago."""
    row = world.metadata.get(keys.cloud_machine(cloud, cloud_id))
    return find(world.metadata, Machine, keys.machine(str(row.value["machine_id"]))) if row else None


def _joins(machine: Machine, world: World) -> bool:
    """Whether its agent introduces itself with a join token: where the cloud knows its machines, there is none to steal."""
    return machine.cloud not in world.identities


def join_token(machine_id: str, *, world: World) -> str:
    """The same for every try of a launch, so that the request stays byte-identical; derived, never stored in clear."""
    secret = world.secrets.get("installation/join-key")
    mac = hmac.new(secret.encode(), machine_id.encode(), hashlib.sha256).hexdigest()
    return f"mlm_{mac}"


def watch_machine(machine_id: str, token: str, *, world: World) -> None:
    """Note the token that the machine's retirement will answer; answer it now if that has happened already."""
    _note_token(machine_id, token, (MachineState.IDLE, MachineState.BUSY), world)


@again_on_conflict
def _note_token(machine_id: str, token: str, states: tuple[MachineState, ...], world: World) -> Stored[Machine] | None:
    stored = need(world.metadata, Machine, keys.machine(machine_id), f"machine {machine_id}")
    if stored.value.state not in states:
        world.metadata.transact(
            [stored.unchanged(), intend(world, "resume", token=token, output={"reason": stored.value.retired_because})]
        )
        world.nudge()
        return None
    writes: list[Write] = [stored.becomes(replace(stored.value, workflow_token=token))]
    if MachineState.REQUESTED in states and _joins(stored.value, world):
        join_key = keys.join(digest(join_token(machine_id, world=world)))
        if not world.metadata.get(join_key):
            writes.append(Put(join_key, {"machine_id": machine_id}, ABSENT))
    world.metadata.transact(writes)
    return find(world.metadata, Machine, keys.machine(machine_id))


def put_out_machine(machine_id: str, reason: str, *, world: World) -> None:
    """Retire it for good and have the cloud end it. Raises `NotYet` until the cloud says that it is gone."""
    machine = _retire(machine_id, reason, world)
    cloud = world.clouds.get(machine.cloud)
    if cloud and machine.state is not MachineState.GONE:
        cloud.terminate(machine_id)


def put_out_and_settle(machine_id: str, reason: str, *, world: World) -> None:
    """End it with whatever it left behind, then let its work move on. Raises `NotYet` while it is not gone."""
    put_out_machine(machine_id, reason, world=world)
    settle_machine(machine_id, world=world)


@again_on_conflict
def _retire(machine_id: str, reason: str, world: World, *, launch_failure: str = "") -> Machine:
    stored = need(world.metadata, Machine, keys.machine(machine_id), f"machine {machine_id}")
    if stored.value.state in (MachineState.DRAINING, MachineState.GONE):
        return stored.value
    failed = replace(stored.value, launch_failure=launch_failure)
    world.metadata.transact(retirement(Stored(stored.key, stored.version, failed), reason, world))
    return failed.retired(reason)


@again_on_conflict
def settle_machine(machine_id: str, *, world: World) -> None:
    """The cloud has confirmed the end: free its execution, its place under the cap, its session. Repeatable."""
    stored = need(world.metadata, Machine, keys.machine(machine_id), f"machine {machine_id}")
    machine = stored.value
    if machine.state is MachineState.GONE:
        return
    why = machine.retired_because or "its machine is gone"
    pool = need(world.metadata, Pool, keys.capacity(machine.environment_id), "the environment's pool")
    now = world.now()
    ended = machine.gone(now)
    whole = installation_pool(world=world)
    writes: list[Write] = [
        stored.becomes(replace(ended, execution_id=None, claim_id=None, workflow_token=None)),
        pool.becomes(pool.value.without(machine, why, now)),
        whole.becomes(whole.value.with_one_less()),
        *settled_cost(ended, now, world=world),
        *lose_attempt(machine, f"machine {machine.id[-8:]} was lost ({why})", world=world),
        *_forgotten(machine, world),
        intend(world, "ensure_capacity", environment_id=machine.environment_id),
        record(world, machine.organisation_id, "lamplighter", "machine.gone", machine.id, because=why),
    ]
    world.metadata.transact(writes)
    world.nudge()


def _forgotten(machine: Machine, world: World) -> list[Write]:
    rows = [keys.live_machine(machine.environment_id, machine.id)]
    if machine.cloud_id:
        rows.append(keys.cloud_machine(machine.cloud, machine.cloud_id))
    if _joins(machine, world):
        rows.append(keys.join(digest(join_token(machine.id, world=world))))
    return [Stored(r.key, r.version, r.value).removed() for r in world.metadata.get_many(rows).values()]


@again_on_conflict
def farewell(stored: Stored[Machine], message: Farewell, *, world: World) -> None:
    """The machine powers off of its own will. Its state machine will make sure that it is gone."""
    current = need(world.metadata, Machine, stored.key, "this machine")
    if current.value.state in (MachineState.DRAINING, MachineState.GONE):
        return
    world.metadata.transact(retirement(current, f"the agent said farewell: {message.reason[:200]}", world))
    world.nudge()


def retire_idle(*, world: World, because: str = "the server stops") -> int:
    """Put every idle or booting machine on its way out; how many there were. Busy ones are left alone."""
    retired = 0
    for environment_row in walk(world.metadata, keys.ENVIRONMENTS):
        for row in walk(world.metadata, keys.machines(str(environment_row.value["environment_id"]))):
            stored = find(world.metadata, Machine, keys.machine(row.key.sort))
            if stored and stored.value.state in (MachineState.REQUESTED, MachineState.IDLE):
                try:
                    world.metadata.transact(retirement(stored, because, world))
                except Conflict:
                    continue  # it has just taken a job: then it is not idle
                retired += 1
    return retired


def silent_since(machine: Machine, last_heartbeat: datetime | None) -> datetime:
    """The last moment at which the control plane heard of the machine."""
    heard = [t for t in (last_heartbeat, machine.last_seen, machine.registered_at, machine.requested_at) if t]
    return max(heard)
