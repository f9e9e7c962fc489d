"""The API: every route, over one world."""

from __future__ import annotations

from functions.resolver import Api
from functions.routes import (
    commits,
    data,
    environments,
    execution_parts,
    executions,
    packages,
    people,
    projects,
    server,
    workers,
)
from lamplighter.world import World

ROUTERS = (people, server, projects, commits, packages, environments, executions, execution_parts, data, workers)


def make_api(world: World, *, behind_proxy: bool = False) -> Api:
    """The routes. `behind_proxy` believes X-Forwarded-* headers: only where a proxy of ours always sets them."""
    api = Api(world, behind_proxy=behind_proxy)
    for module in ROUTERS:
        api.mount(module.router)
    return api
