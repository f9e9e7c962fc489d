"""The API: every route, over one world."""

from __future__ import annotations

from functions.resolver import Api
from functions.routes.all import MODULES
from lamplighter.world import World


def make_api(world: World, *, behind_proxy: bool = False) -> Api:
    """The routes. `behind_proxy` believes X-Forwarded-* headers: only where a proxy of ours always sets them."""
    return Api(world, MODULES, behind_proxy=behind_proxy)
