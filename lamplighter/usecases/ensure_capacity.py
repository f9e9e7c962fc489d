"""Reserve the machines that a queue needs: ledger row, count and launch intent in one conditional transaction each."""

from __future__ import annotations

from lamplighter import keys
from lamplighter.domain.budget import over_budget
from lamplighter.domain.capacity import Action, Launch, Policy, Pool, plan, within_cap
from lamplighter.domain.environments import Environment
from lamplighter.domain.machines import Machine
from lamplighter.intents import intend, record
from lamplighter.records import again_on_conflict, find, need, new
from lamplighter.usecases.fleet import installation_pool, machines_of, spent_today
from lamplighter.world import World


@again_on_conflict
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
    action = plan(queued, machines, policy, pool.value if pool else Pool(), world.now())
    return _within_the_whole(action, world) if isinstance(action, Launch) else action


def _within_the_whole(action: Launch, world: World) -> Action:
    """The bounds of the installation, which are only looked at when a machine is to be started."""
    whole = world.installation
    if whole.daily_budget_usd is not None:
        hold = over_budget(whole.daily_budget_usd, spent_today(world=world), world.now())
        if hold:
            return hold
    if not whole.max_machines:
        return action
    return within_cap(action, whole.max_machines, installation_pool(world=world).value)


def _reserve(environment: Environment, world: World) -> bool:
    """One machine, unless a cap is reached. Raises `Conflict` when another writer counts at this moment: decide anew."""
    pool = need(world.metadata, Pool, keys.capacity(environment.id), "the environment's pool")
    whole = installation_pool(world=world)
    full = 0 < world.installation.max_machines <= whole.value.count
    if full or pool.value.count >= environment.max_machines:
        return False
    machine = Machine(
        id=world.new_id(),
        organisation_id=environment.organisation_id,
        environment_id=environment.id,
        environment_slug=environment.slug,
        cloud=environment.cloud,
        requested_at=world.now(),
        options=environment.options,
        gpu_spec=environment.gpu_spec,
        per_hour_price_usd=environment.per_hour_price_usd,
    )
    world.metadata.transact(
        [
            pool.becomes(pool.value.with_one_more()),
            whole.becomes(whole.value.with_one_more()),
            new(keys.machine(machine.id), machine),
            new(keys.live_machine(environment.id, machine.id), {"machine_id": machine.id}),
            intend(world, "start_machine", machine_id=machine.id),
            record(world, environment.organisation_id, "lamplighter", "machine.request", machine.id),
        ]
    )
    return True
