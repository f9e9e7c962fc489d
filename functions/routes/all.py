"""Where the routes are: a route whose module is not named here is not served, described or tested."""

from __future__ import annotations

from collections.abc import Mapping

MODULES: Mapping[str, tuple[str, ...]] = {
    "get-token": ("functions.routes.people",),
    "users": ("functions.routes.people",),
    "tokens": ("functions.routes.people",),
    "server": ("functions.routes.server",),
    "health": ("functions.routes.server",),
    "openapi.json": ("functions.openapi",),
    "projects": ("functions.routes.projects", "functions.routes.packages"),
    "repositories": ("functions.routes.projects",),
    "commits": ("functions.routes.commits",),
    "environments": ("functions.routes.environments",),
    "executions": ("functions.routes.executions", "functions.routes.execution_parts"),
    "notebook-executions": ("functions.routes.executions",),
    "data": ("functions.routes.data",),
    "datum-aliases": ("functions.routes.data",),
    "worker": ("functions.routes.workers",),
}
"""The modules that hold a collection's routes, each as its `router`; loaded when that collection is asked for."""


def collection_of(path: str) -> str:
    """What a path is about: the first word behind `/api/` that is no version. Empty for a path of another kind."""
    words = [word for word in path.split("/") if word]
    rest = words[2:] if words[1:2] == ["v0"] else words[1:]
    return rest[0] if words[:1] == ["api"] and rest else ""
