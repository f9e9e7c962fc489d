"""Requests to routes, safely for many threads at once.

Powertools' own synchronous path keeps the current event in a class attribute, and its asynchronous path runs handlers on the
event loop. Here each request is resolved wholly in one worker thread, with its state in a context variable.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints
from urllib.parse import parse_qs

from aws_lambda_powertools.event_handler import HttpResolverLocal, Response
from aws_lambda_powertools.event_handler.api_gateway import Route, Router
from aws_lambda_powertools.event_handler.http_resolver import HttpProxyEvent, MockLambdaContext, _RequestState
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError, ResponseValidationError

from functions import callers
from functions.authentication import Scheme, authenticate, scheme_of
from functions.callers import Call, origin_of
from functions.failures import MethodNotAllowed, UnsupportedMedia, answer_for, invalid_fields
from functions.messages import MAX_QUERY_FIELDS, Answer, Head, to_json
from functions.parcels import Parcel
from lamplighter.errors import Invalid, NotFound
from lamplighter.world import World

_CALLER_OF: Mapping[Scheme, Any] = {
    "Public": callers.Anybody,
    "Token": callers.Person,
    "Join": callers.Joiner,
    "Session": callers.Agent,
    "Job": callers.Job,
}


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

    def __init__(self, world: World, *, behind_proxy: bool = False) -> None:
        super().__init__(enable_validation=True)
        self._response_validation_middleware._has_response_validation_error = True
        self.world = world
        self._behind_proxy = behind_proxy
        self._building = threading.Lock()

    @property
    def routes(self) -> list[Route]:
        """Every route, in the order in which they are tried."""
        return [*self._static_routes, *self._dynamic_routes]

    def mount(self, router: Router) -> None:
        """Add the router's routes. Raises `TypeError` for one whose first parameter does not fit its scheme."""
        self.include_router(router)
        for route in self.routes:
            scheme = scheme_of(route.method, route.path)
            kinds = list(get_type_hints(route.func, include_extras=True).values())
            if not kinds or kinds[0] != _CALLER_OF[scheme]:
                raise TypeError(f"{route.method} {route.path} is {scheme}: {route.func.__name__} takes another caller")

    def admit(self, head: Head) -> Admitted | Answer:
        """Find the route and prove the caller; or say why not."""
        try:
            route, arguments = self._find(head)
            origin = origin_of(head, self.world.installation.url, behind_proxy=self._behind_proxy)
            call = authenticate(scheme_of(route.method, route.path), head, origin, world=self.world)
        except Exception as error:
            return answer_for(_own_words(error), worker=_is_worker(head))
        return Admitted(head, route, arguments, call)

    def perform(self, admitted: Admitted, body: bytes | Parcel = b"") -> Answer:
        """Run the route on a body that was read completely, or on an archive that was."""
        try:
            return self._perform(admitted, body)
        except Exception as error:
            return answer_for(_own_words(error), worker=_is_worker(admitted.head))

    def _find(self, head: Head) -> tuple[Route, dict[str, str]]:
        allowed = set()
        for route in self.routes:
            match = route.rule.match(head.path)
            if match and route.method == head.method:
                return route, match.groupdict()
            if match:
                allowed.add(route.method)
        if allowed:
            raise MethodNotAllowed(head.method, allowed)
        raise NotFound(f"There is nothing at {head.path}.")

    def _perform(self, admitted: Admitted, body: bytes | Parcel) -> Answer:
        route = admitted.route
        content = body if isinstance(body, Parcel) else _content(admitted.head, body, bool(route.dependant.body_params))
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
    def _compile_regex(rule: str, base_regex: str = "^{}/*$") -> Any:
        return super(Api, Api)._compile_regex(rule.rstrip("/") or "/", base_regex)


def _finished(response: Any) -> Answer:
    content = response.body
    plain = isinstance(response, Response) and not response.is_json()
    body = (content.encode() if isinstance(content, str) else content or b"") if plain else to_json(content)
    if response.status_code == 204:
        body = b""
    headers = {k: v for k, v in response.headers.items() if isinstance(v, str) and k != "Content-Type"}
    return Answer(response.status_code, body, str(response.headers.get("Content-Type", "application/json")), headers)


def _content(head: Head, body: bytes, wanted: bool) -> Any:
    """The body as plain JSON, whichever of the two kinds it is. Raises `Invalid`, `UnsupportedMedia`."""
    if not wanted:
        return None
    kind = head.headers.get("content-type", "").split(";")[0].strip().lower()
    if not body:
        return None
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid.because(f"The body is not UTF-8: byte {error.start} does not fit.", "parse_error") from error
    if kind == "application/x-www-form-urlencoded":
        try:
            fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
        except ValueError as error:
            raise Invalid.because(f"The form cannot be read: {error}.", "parse_error") from error
        return {name: values[-1] for name, values in fields.items()}
    if kind not in ("application/json", "text/json", ""):
        raise UnsupportedMedia(f'A body of "{kind[:100]}" is not read here: send application/json.')
    try:
        content = json.loads(text, parse_constant=_no_json)
        if "\\ud" in text.lower() and not _is_worker(head):
            # Only a log line may hold half of a surrogate pair; nothing else could be stored.
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Invalid.because(f"The body is not valid JSON: {why}.", "parse_error") from error
    return content


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _own_words(error: Exception) -> Exception:
    if isinstance(error, RequestValidationError) and not isinstance(error, ResponseValidationError):
        return invalid_fields(error.errors())
    return error


def _is_worker(head: Head) -> bool:
    return head.path.startswith("/api/worker/")
