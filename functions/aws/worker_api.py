"""The door for machines: every call of the worker API, with nothing loaded that a call does not need."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from functions.authentication import authenticate, scheme_of
from functions.aws import gateway
from functions.aws.wiring import sandbox_world
from functions.bodies import compressed, content_of
from functions.callers import Call, origin_of
from functions.failures import answer_for
from functions.finding import route_for
from functions.messages import Answer, Head, pattern_of
from functions.worker_routes import ROUTES, WorkerRoute
from lamplighter.contract.wire import decode, encode
from lamplighter.errors import Invalid, TooLarge
from lamplighter.world import World


class AnswerTooLarge(TooLarge):
    """What was asked is done, and its answer does not fit through this door."""

    code = "answer_too_large"


def make_handler(world: Callable[[], World]) -> Callable[[gateway.Event, Any], dict[str, Any]]:
    """What Lambda calls with each event of the gateway. `world` may raise: the agent is told, and its next call tries again."""

    def handle(event: gateway.Event, context: object = None) -> dict[str, Any]:  # noqa: ARG001 - Lambda gives it
        try:
            head = gateway.head_of(event)
            answer = _carried(compressed(_answer(head, event, world()), head))
        except Exception as error:
            answer = answer_for(error, worker=True)
        return gateway.response(event, answer)

    return handle


def _answer(head: Head, event: gateway.Event, world: World) -> Answer:
    route, arguments = route_for(head, ((route.method, _pattern(route.path), route) for route in ROUTES))
    origin = origin_of(head, world.installation.url, behind_proxy=False)
    call = authenticate(scheme_of(route.method, route.path), head, origin, world=world)
    return Answer.of(200, encode(_perform(route, call, arguments, head, event)))


def _carried(answer: Answer) -> Answer:
    """The answer, if the platform carries it: what it does not carry would look like an outage, and be asked for again for ever."""
    if gateway.fits(answer):
        return answer
    size = f"The answer has {len(answer.body)} bytes as it would travel"
    raise AnswerTooLarge(
        f"{size}, and at most {gateway.MAX_ANSWER_BYTES} are carried here as base64. Ask for less at once."
    )


def _perform(route: WorkerRoute, call: Call, arguments: Mapping[str, str], head: Head, event: gateway.Event) -> Any:
    given: dict[str, Any] = {**arguments, **{name: call.query.get(name, []) for name in route.query}}
    kind = _hints(route.handler).get("message")
    if kind:
        content = content_of(head, gateway.body_of(event))
        if content is None:
            raise Invalid.because("This field is required.")
        given["message"] = decode(kind, content)
    return route.handler(call, **given)


_pattern: Callable[[str], re.Pattern[str]] = cache(pattern_of)
_hints: Callable[[Any], dict[str, Any]] = cache(get_type_hints)

handler = make_handler(sandbox_world("dynamodb_http"))
