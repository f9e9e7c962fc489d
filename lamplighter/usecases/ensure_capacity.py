"""Reserve the machines that a queue needs: ledger row, count and launch intent in one conditional transaction each."""

from __future__ import annotations

from lamplighter import keys
from lamplighter.domain.capacity import Action, Launch, Policy, Pool, plan
from lamplighter.domain.environments import Environment
from lamplighter.domain.machines import Machine
from lamplighter.errors import Conflict
from lamplighter.intents import intend, record
from lamplighter.records import find, find_many, need, new, walk
from lamplighter.world import World


def machines_of(environment_id: str, *, world: World) -> list[Machine]:
    """Those that are not gone."""
    ids = [r.key.sort for r in walk(world.metadata, keys.machines(environment_id))]
    return [s.value for s in find_many(world.metadata, Machine, [keys.machine(i) for i in ids])]


def ensure_capacity(environment_id: str, *, world: World) -> Action | None:
    """Decide from the facts of now, and reserve. Late, lost or repeated calls ask for nothing twice."""
    environment = find(world.metadata, Environment, keys.environment(environment_id))
    if not environment:
        return None
    action = decide(environment.value, world=world)
    if isinstance(action, Launch):
        for _ in range(action.count):
            if not _reserve(environment.value, world):
                break
        world.nudge()
    return action


def decide(environment: Environment, *, world: World) -> Action:
    """What the environment needs now, without doing it."""
    machines = machines_of(environment.id, world=world)
    # Counting on beyond a full house would change nothing, and queues grow long.
    most = max(1, environment.max_machines + len(machines))
    queued = len(world.metadata.query(keys.queue(environment.id), limit=most).records)
    pool = find(world.metadata, Pool, keys.capacity(environment.id))
    policy = Policy(environment.enabled, environment.max_machines)
    return plan(queued, machines, policy, pool.value if pool else Pool(), world.now())


def _reserve(environment: Environment, world: World) -> bool:
    """One machine, unless the cap is reached or another writer counts at this moment (who will have seen the same need)."""
    pool = need(world.metadata, Pool, keys.capacity(environment.id), "the environment's pool")
    if pool.value.count >= environment.max_machines:
        return False
    machine = Machine(
        id=world.new_id(),
        organisation_id=environment.organisation_id,
        environment_id=environment.id,
        environment_slug=environment.slug,
        cloud=environment.cloud,
        requested_at=world.now(),
        options=environment.options,
    )
    try:
        world.metadata.transact(
            [
                pool.becomes(pool.value.with_one_more()),
                new(keys.machine(machine.id), machine),
                new(keys.live_machine(environment.id, machine.id), {"machine_id": machine.id}),
                intend(world, "start_machine", machine_id=machine.id),
                record(world, environment.organisation_id, "lamplighter", "machine.request", machine.id),
            ]
        )
    except Conflict:
        return False
    return True
