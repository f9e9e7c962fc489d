"""Which route a request means, whatever serves the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from functions.failures import MethodNotAllowed
from functions.messages import Head
from lamplighter.errors import NotFound

Route = TypeVar("Route")


def route_for(head: Head, routes: Iterable[tuple[str, re.Pattern[str], Route]]) -> tuple[Route, dict[str, str]]:
    """The first of `routes` (method, pattern of the path, route) that fits, with the parts of the path by name.

    Raises `MethodNotAllowed` where another method would fit, `NotFound` where none would.
    """
    allowed = set()
    for method, pattern, route in routes:
        match = pattern.match(head.path)
        if match and method == head.method:
            return route, match.groupdict()
        if match:
            allowed.add(method)
    if allowed:
        raise MethodNotAllowed(head.method, allowed)
    raise NotFound(f"There is nothing at {head.path}.")
