"""Requests to routes, safely for many threads at once.

Powertools' own synchronous path keeps the current event in a class attribute, and its asynchronous path runs handlers on the
event loop. Here each request is resolved wholly in one worker thread, with its state in a context variable.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from aws_lambda_powertools.event_handler import HttpResolverLocal, Response
from aws_lambda_powertools.event_handler.api_gateway import Route, Router
from aws_lambda_powertools.event_handler.http_resolver import HttpProxyEvent, MockLambdaContext, _RequestState
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError, ResponseValidationError

from functions.authentication import authenticate, scheme_of
from functions.bodies import content_of
from functions.callers import Call, origin_of
from functions.failures import answer_for, invalid_fields
from functions.finding import route_for
from functions.messages import Answer, Head, pattern_of, to_json
from functions.routes.all import collection_of
from functions.routes.callers import CALLER_OF
from lamplighter.world import World

if TYPE_CHECKING:
    from functions.parcels import Parcel


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that found its route and whose caller is proven; its body has not been read."""

    head: Head
    route: Route
    arguments: Mapping[str, str]
    call: Call


class _Event(HttpProxyEvent):
    """A request whose body was read already."""

    def __init__(self, head: Head, content: Any) -> None:
        # Form and JSON bodies look alike from here on.
        headers = {**head.headers, "content-type": "application/json"}
        super().__init__(head.method, head.path, headers, None, head.query_string)
        self._content = content

    @property
    def json_body(self) -> Any:
        return self._content


class Api(HttpResolverLocal):
    """The routes of the API over one world. Every method may be called from any thread."""

    def __init__(
        self, world: World, modules: Mapping[str, Sequence[str]] | None = None, *, behind_proxy: bool = False
    ) -> None:
        """`modules` names those that hold a collection's routes, as `functions.routes.all` does; they are loaded when needed."""
        super().__init__(enable_validation=True)
        self._response_validation_middleware._has_response_validation_error = True
        self.world = world
        self._modules = modules or {}
        self._mounted: set[str] = set()
        self._behind_proxy = behind_proxy
        self._building = threading.RLock()

    @property
    def routes(self) -> list[Route]:
        """Every route, in the order in which they are tried. Loads all of them."""
        for collection in self._modules:
            self._load(collection)
        return [*self._static_routes, *self._dynamic_routes]

    def mount(self, router: Router, module: str = "") -> None:
        """Add the router's routes. Raises `TypeError` for one whose first parameter does not fit its scheme, or that nobody
        would find in `module`.
        """
        before = {id(route) for route in (*self._static_routes, *self._dynamic_routes)}
        self.include_router(router)
        for route in (*self._static_routes, *self._dynamic_routes):
            if id(route) in before:
                continue
            scheme = scheme_of(route.method, route.path)
            kinds = list(get_type_hints(route.func, include_extras=True).values())
            if not kinds or kinds[0] != CALLER_OF[scheme]:
                raise TypeError(f"{route.method} {route.path} is {scheme}: {route.func.__name__} takes another caller")
            if module and module not in self._modules.get(collection_of(route.path), ()):
                raise TypeError(f"{route.method} {route.path} would not be found: name {module} for its collection")

    def admit(self, head: Head) -> Admitted | Answer:
        """Find the route and prove the caller; or say why not."""
        try:
            route, arguments = self._find(head)
            origin = origin_of(head, self.world.installation.url, behind_proxy=self._behind_proxy)
            call = authenticate(scheme_of(route.method, route.path), head, origin, world=self.world)
        except Exception as error:
            return answer_for(_own_words(error), worker=head.is_worker)
        return Admitted(head, route, arguments, call)

    def perform(self, admitted: Admitted, body: bytes | Parcel = b"") -> Answer:
        """Run the route on a body that was read completely, or on an archive that was."""
        try:
            return self._perform(admitted, body)
        except Exception as error:
            return answer_for(_own_words(error), worker=admitted.head.is_worker)

    def _find(self, head: Head) -> tuple[Route, dict[str, str]]:
        self._load(collection_of(head.path))
        routes = (*self._static_routes, *self._dynamic_routes)
        return route_for(head, ((route.method, route.rule, route) for route in routes))

    def _load(self, collection: str) -> None:
        for module in self._modules.get(collection, ()):
            if module not in self._mounted:
                with self._building:
                    if module not in self._mounted:
                        self.mount(import_module(module).router, module)
                        self._mounted.add(module)

    def _perform(self, admitted: Admitted, body: bytes | Parcel) -> Answer:
        route = admitted.route
        content: Any = body
        if isinstance(body, bytes):
            content = content_of(admitted.head, body) if route.dependant.body_params else None
        context = {"call": admitted.call, "_route": route, "_path": admitted.head.path}
        event = _Event(admitted.head, content)
        state = _RequestState(event=event, lambda_context=MockLambdaContext(), context=context)
        token = self._request_state.set(state)
        try:
            self._build(route)
            return _finished(self._to_response(route([], self, dict(admitted.arguments))))
        finally:
            self._request_state.reset(token)

    def _build(self, route: Route) -> None:
        """Two threads that build one route's chain together would wrap it twice."""
        if not route._middleware_stack_built:
            with self._building:
                if not route._middleware_stack_built:
                    route._build_middleware_stack(router_middlewares=[], app=self)

    @staticmethod
    def _compile_regex(rule: str, base_regex: str = "") -> Any:  # noqa: ARG004 - ours has no other
        return pattern_of(rule)


def _finished(response: Any) -> Answer:
    content = response.body
    plain = isinstance(response, Response) and not response.is_json()
    body = (content.encode() if isinstance(content, str) else content or b"") if plain else to_json(content)
    if response.status_code == 204:
        body = b""
    headers = {k: v for k, v in response.headers.items() if isinstance(v, str) and k != "Content-Type"}
    return Answer(response.status_code, body, str(response.headers.get("Content-Type", "application/json")), headers)


def _own_words(error: Exception) -> Exception:
    if isinstance(error, RequestValidationError) and not isinstance(error, ResponseValidationError):
        return invalid_fields(error.errors())
    return error
