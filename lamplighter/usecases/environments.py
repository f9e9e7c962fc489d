"""Environments: what is on offer, which one a request means, and how many wait in each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from lamplighter import keys
from lamplighter.contract.wire import decode, encode
from lamplighter.domain.capacity import Pool
from lamplighter.domain.environments import Environment
from lamplighter.domain.projects import Principal, Project
from lamplighter.errors import Invalid, LaunchRefused, NotFound
from lamplighter.intents import intend, record
from lamplighter.ports import ABSENT, Put
from lamplighter.records import Stored, again_on_conflict, find, find_many, new, walk
from lamplighter.usecases import bounds
from lamplighter.usecases.access import actor, need_admin, organisation_of
from lamplighter.world import World

PROJECT_DEFAULT = "PROJECT_DEFAULT"
"""What notebooks send when they leave the choice to the project."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FIXED = ("id", "organisation_id", "slug", "cloud", "ctime")
_RANGES: Mapping[str, tuple[float, float]] = {
    "max_machines": (0, 10_000),
    "idle_seconds": (0, 7 * 86_400),
    "boot_seconds": (10, 86_400),
    "lease_seconds": (60, 86_400),
    "cpus": (0.001, 100_000),
    "memory_mib": (1, 2**30),
    "per_user_queue_quota": (0, 10**6),
    "per_hour_price_usd": (0, 10**6),
}
_LAUNCHED_WITH = ("options", "gpu_spec")
"""What a cloud makes a machine of. Other changes, such as `enabled`, are open to an environment that cannot be launched."""
_LOCAL_CHOICES: Mapping[str, tuple[str, ...]] = {
    "runtime": ("auto", "docker", "process"),
    "input_networks": ("public", "private", "any"),
}
"""Options of the cloud "local" that would fail every launch if they were anything else."""


def list_environments(principal: Principal | None, *, world: World) -> list[Environment]:
    """Every environment of the caller's organisation, disabled ones included, by name."""
    organisation_id = organisation_of(principal, world=world)
    ids = [str(row.value["environment_id"]) for row in walk(world.metadata, keys.ENVIRONMENTS)]
    found = find_many(world.metadata, Environment, [keys.environment(i) for i in ids])
    own = [f.value for f in found if f.value.organisation_id == organisation_id]
    return sorted(own, key=lambda environment: (environment.name.casefold(), environment.slug))


def get_environment(principal: Principal | None, id_or_slug: str, *, world: World) -> Environment:
    """The environment with this id or slug. Raises `NotFound` naming those there are."""
    there = list_environments(principal, world=world)
    for environment in there:
        if id_or_slug in (environment.id, environment.slug):
            return environment
    slugs = ", ".join(environment.slug for environment in there) or "none"
    raise NotFound(f'There is no environment "{id_or_slug[:100]}"; there are: {slugs[:500]}.')


def resolve_environment(
    principal: Principal,
    wanted: str | None,
    *,
    project: Project | None,
    step_environment: str | None,
    world: World,
) -> Environment:
    """The enabled environment that a request means, by id, slug, name or a part of them that fits no other.

    Without a wish, or with PROJECT_DEFAULT, it is the step's, then the project's, then the first enabled one.
    Raises `Invalid` under "environment".
    """
    offered = list_environments(principal, world=world)
    wishes = (wanted, step_environment, project.default_environment if project else None)
    wish = next((w for w in wishes if w and w != PROJECT_DEFAULT), None)
    if not wish:
        return _first_enabled(offered)
    meant = _meant(wish, offered)
    if len(meant) != 1:
        raise Invalid({"environment": [(_no_match(wish, meant, offered), "does_not_exist")]})
    if not meant[0].enabled:
        raise Invalid({"environment": [(f"{meant[0].name} is disabled. {_choices(offered)}", "disabled")]})
    return meant[0]


@again_on_conflict
def create_environment(principal: Principal | None, fields: Mapping[str, Any], *, world: World) -> Environment:
    """A new kind of machine on offer, with the fields of `Environment`; slug, name and cloud are needed.

    Raises `Forbidden` unless an admin calls, `Invalid` for a slug that is taken or a field that is not right.
    """
    need_admin(principal, "create environments")
    organisation_id = organisation_of(principal, world=world)
    environment = checked_environment(fields, organisation_id, world=world)
    if world.metadata.get(keys.environment_slug(environment.slug)):
        raise Invalid({"slug": [("An environment with this slug exists already.", "unique")]})
    trace = record(world, organisation_id, actor(principal), "environment.create", environment.id, **_told(fields))
    world.metadata.transact([*rows_of_new_environment(environment), trace])
    return environment


def checked_environment(fields: Mapping[str, Any], organisation_id: str, *, world: World) -> Environment:
    """A new environment with these fields. Raises `Invalid` for any that is not right."""
    given = {"id": world.new_id(), "organisation_id": organisation_id, "ctime": encode(world.now())}
    slug = fields.get("slug")
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug):
        raise Invalid({"slug": ["1 to 63 lower-case letters, digits and - are accepted."]})
    if not isinstance(fields.get("cloud"), str) or fields["cloud"] not in world.clouds:
        there = ", ".join(sorted(world.clouds)) or "none"
        raise Invalid({"cloud": [f"This installation has no such cloud; there are: {there}."]})
    environment = _checked({"slug": slug, "cloud": fields["cloud"], **given}, fields, ("slug", "cloud"))
    _check_offer(environment, world)
    return environment


def rows_of_new_environment(environment: Environment) -> list[Put]:
    """The writes that make an environment that was not there before, with its count of machines."""
    return [
        new(keys.environment(environment.id), environment),
        new(keys.environment_slug(environment.slug), {"environment_id": environment.id}),
        Put(keys.capacity(environment.id), {"count": 0}, ABSENT),
    ]


@again_on_conflict
def update_environment(
    principal: Principal | None, slug: str, changes: Mapping[str, Any], *, world: World
) -> Environment:
    """Change fields; slug and cloud are for ever. Changing nothing is no error.

    Whoever waits is looked at again, at once: a pause after launches that failed is over.

    Raises `Forbidden` unless an admin calls, `NotFound`, `Invalid`.
    """
    need_admin(principal, "change environments")
    stored = _need(principal, slug, world)
    changed = _checked(encode(stored.value), changes, ())
    if changed == stored.value:
        return changed
    if not {*changes}.isdisjoint(_LAUNCHED_WITH):
        _check_offer(changed, world)
    trace = record(world, changed.organisation_id, actor(principal), "environment.update", changed.id, **_told(changes))
    pool = find(world.metadata, Pool, keys.capacity(changed.id))
    pause = [pool.becomes(pool.value.forgiven())] if pool and pool.value.failures else []
    again = intend(world, "ensure_capacity", environment_id=changed.id)
    world.metadata.transact([stored.becomes(changed), *pause, again, trace])
    world.nudge()
    return changed


def unfinished_counts(environment_ids: Iterable[str], *, world: World) -> dict[str, int]:
    """How many executions of each environment have not ended."""
    return {i: sum(1 for _ in walk(world.metadata, keys.live_of_environment(i))) for i in environment_ids}


def _need(principal: Principal | None, slug: str, world: World) -> Stored[Environment]:
    environment = get_environment(principal, slug, world=world)
    stored = find(world.metadata, Environment, keys.environment(environment.id))
    if not stored:
        raise NotFound("this environment does not exist")
    return stored


def _checked(base: Mapping[str, Any], fields: Mapping[str, Any], allowed: tuple[str, ...]) -> Environment:
    known = {*Environment.__dataclass_fields__} - {*_FIXED} | {*allowed}
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise Invalid({str(name)[:100]: ["This field does not exist or cannot be changed."] for name in unknown})
    given = {name: str(v)[:40] if name == "per_hour_price_usd" else encode(v) for name, v in fields.items()}
    environment: Environment = decode(Environment, {**base, **given})
    _check_ranges(environment)
    options = bounds.json_object("options", environment.options)
    if environment.cloud == "local":
        _check_local(options)
    return replace(
        environment,
        name=bounds.line("name", environment.name, most=100, least=1),
        description=bounds.text("description", environment.description, most=bounds.DESCRIPTION),
        gpu_spec=bounds.line("gpu_spec", environment.gpu_spec, most=bounds.NAME),
        options=options,
    )


def _check_ranges(environment: Environment) -> None:
    faults = {}
    for name, (least, most) in _RANGES.items():
        value: float | Decimal | None = getattr(environment, name)
        # A signalling NaN refuses to be compared at all.
        finite = value.is_finite() if isinstance(value, Decimal) else True
        if value is not None and not (finite and least <= value <= most):
            faults[name] = [f"A number from {least:g} to {most:g}."]
    if faults:
        raise Invalid(faults)


def _check_local(options: Mapping[str, Any]) -> None:
    faults = [
        f"{name} must be one of {', '.join(choices)}."
        for name, choices in _LOCAL_CHOICES.items()
        if options.get(name, choices[0]) not in choices
    ]
    if faults:
        raise Invalid({"options": faults})


def _check_offer(environment: Environment, world: World) -> None:
    check = world.offer_checks.get(environment.cloud)
    if not check:
        return
    try:
        check(environment)
    except LaunchRefused as refusal:
        raise Invalid({"options": [str(refusal)]}) from refusal


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit says of a change: the new values, but of the cloud's options only that they were touched."""
    return {name: "changed" if name == "options" else encode(value) for name, value in fields.items()}


def _first_enabled(offered: list[Environment]) -> Environment:
    for environment in offered:
        if environment.enabled:
            return environment
    raise Invalid({"environment": [("No environment is enabled: ask an administrator for one.", "does_not_exist")]})


def _meant(wish: str, offered: list[Environment]) -> list[Environment]:
    exact = [e for e in offered if wish in (e.id, e.slug)] or [e for e in offered if wish == e.name]
    if exact:
        return exact[:1]
    part = wish.casefold()
    return [e for e in offered if part in e.name.casefold() or part in e.slug.casefold()]


def _no_match(wish: str, meant: list[Environment], offered: list[Environment]) -> str:
    if meant:
        slugs = ", ".join(e.slug for e in meant[:10])
        return f'"{wish[:100]}" could mean several environments: {slugs}. Give the whole slug.'
    return f'No environment matches "{wish[:100]}". {_choices(offered)}'


def _choices(offered: list[Environment]) -> str:
    slugs = ", ".join(e.slug for e in offered if e.enabled)
    return f"There are: {slugs[:500]}." if slugs else "None is enabled: ask an administrator for one."
