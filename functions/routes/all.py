"""Every router there is; a route that is not here is not served, described or tested."""

from __future__ import annotations

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

MODULES = (people, server, projects, commits, packages, environments, executions, execution_parts, data, workers)
ROUTERS = tuple(module.router for module in MODULES)
