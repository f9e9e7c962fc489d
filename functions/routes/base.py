"""How a module of routes begins."""

from __future__ import annotations

from aws_lambda_powertools.event_handler.api_gateway import Router

IMPORT_PACKAGE = "importPackage"
"""The operation whose body is taken apart while it arrives."""


def new_router() -> Router:
    """An empty set of routes."""
    return Router()  # type: ignore[no-untyped-call]
