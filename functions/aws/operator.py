"""The operator's commands against a stack: with their own AWS credentials, on the stack's table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from adapters.aws.stack import Stack
from functions.aws.settings import Settings, settings_of_outputs
from functions.aws.wiring import CLOUD, make_metadata, make_world
from functions.stores import ConfiguredStores
from functions.wiring import JOIN_KEY, own_key
from lamplighter.errors import NotFound, Unavailable
from lamplighter.ports import Metadata
from lamplighter.usecases.environments import create_environment, list_environments
from lamplighter.usecases.initialise import initialise
from lamplighter.usecases.installation import read_installation
from lamplighter.world import World


@dataclass(frozen=True, slots=True)
class Operated:
    """What the commands work on."""

    world: World
    metadata: Metadata
    stores: ConfiguredStores


def settings_of(stack: Stack) -> Settings:
    """What the stack tells of itself. Raises `NotFound` for a stack that is not one of ours."""
    outputs = stack.outputs()
    if "Table" not in outputs or "Installation" not in outputs:
        raise NotFound(
            f"The stack {stack.name} in {stack.region} is no Lamplighter: it has no outputs Table, Installation."
        )
    return settings_of_outputs(outputs, stack.region)


def operate(stack: Stack) -> Operated:
    """The installation behind the stack, reached as the operator. Raises as `settings_of`, and what the table raises."""
    settings = settings_of(stack)
    metadata = make_metadata(settings)
    world = make_world(settings, metadata, stack.credentials)
    stores = world.stores
    assert isinstance(stores, ConfiguredStores)  # noqa: S101 - make_world makes no other
    return Operated(world, metadata, stores)


@contextmanager
def opened(name: str, region: str | None) -> Iterator[Operated]:
    """For every command but `init`. Raises `Unavailable` before that one was given."""
    found = operate(Stack(name, region))
    if not read_installation(found.metadata):
        raise Unavailable(f"Nobody has begun with this installation: run `lamplighter --stack {name} init` first.")
    yield found


def init(name: str, region: str | None, given: argparse.Namespace) -> int:
    """Make the organisation, the administrator and, if it is described, the first environment. Repeatable.

    An installation that was begun before gets the environment too, unless there is one of this name.
    """
    world = operate(Stack(name, region)).world
    own_key(world.secrets, JOIN_KEY)
    described = _environment(given)
    made = initialise(admin_password=given.admin_password, environment=described, world=world)
    if not made.created:
        _add_to_begun(name, world, described, given)
        return 0
    print(f"Lamplighter is ready.\n  Open      {world.installation.url}/")
    print(f"  Log in    vh login --host {world.installation.url} --username admin")
    if made.generated_password:
        print(f"  Password  {made.generated_password}   (of the user admin; shown only now)")
    _tell_price(name, given)
    if not given.environment:
        print(f"  Next      {add_command(name)}")
    return 0


def _add_to_begun(name: str, world: World, described: dict[str, Any] | None, given: argparse.Namespace) -> None:
    begun = f"{world.installation.url} was begun before"
    there = {environment.slug for environment in list_environments(None, world=world)}
    if described and given.environment not in there:
        added = create_environment(None, described, world=world)
        print(f"{begun}: the environment {added.slug} was added" + _password_told(given))
        _tell_price(name, given)
        return
    print(f"{begun}: nothing was changed" + _password_told(given))
    if described:
        change = f"lamplighter --stack {name} environment set {given.environment} FIELD=VALUE"
        print(f"  There is an environment {given.environment} already. Change it by  {change}")
    print(f"  Another environment    {add_command(name)}")
    print(f"  Another password       lamplighter --stack {name} user password admin")


def _tell_price(name: str, given: argparse.Namespace) -> None:
    if given.environment and given.price is None:
        print(f"  Price     none, so the daily budget does not count the machines of {given.environment}. Set it by")
        print(f"            {price_command(name, given.environment)}")


def add_command(stack: str) -> str:
    """What an operator types to offer a kind of machine."""
    return f"lamplighter --stack {stack} environment add NAME 'options.instance_types=[\"t3.medium\"]'"


def price_command(stack: str, environment: str) -> str:
    """What an operator types so that the daily budget counts an environment's machines."""
    return f"lamplighter --stack {stack} environment set {environment} per_hour_price_usd=0.05"


def _password_told(given: argparse.Namespace) -> str:
    return ", but the administrator's password is the one you gave." if given.admin_password else "."


def _environment(given: argparse.Namespace) -> dict[str, Any] | None:
    if not given.environment:
        return None
    fields: dict[str, Any] = {"slug": given.environment, "name": given.environment, "cloud": CLOUD}
    fields["options"] = {"instance_types": given.instance_type, "purchase": given.purchase}
    more = {"max_machines": given.max_machines, "per_hour_price_usd": given.price}
    return fields | {name: value for name, value in more.items() if value is not None}
