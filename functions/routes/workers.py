"""The worker API as Powertools serves and describes it, made from `functions.worker_routes`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from pydantic import PlainValidator

from functions.callers import AgentCall, Call, JobCall, JoinCall
from functions.routes.base import new_router
from functions.routes.callers import Agent, Anybody, Job, Joiner
from functions.worker_routes import ROUTES, Handler, WorkerRoute
from lamplighter.contract.wire import decode

_CALLERS: Mapping[Any, Any] = {Call: Anybody, AgentCall: Agent, JobCall: Job, JoinCall: Joiner}
_ONE_OR_MORE = Annotated[list[str] | None, Query()]

router = new_router()


def _by_contract(kind: type[Any]) -> Any:
    """A body is read by the contract's own rules: a log line may hold what pydantic would refuse."""
    reader = PlainValidator(lambda value: decode(kind, value), json_schema_input_type=kind)
    return Annotated[kind, reader, Body()]


def _hinted(route: WorkerRoute) -> Handler:
    """The handler with the hints by which Powertools finds caller, body and query."""
    hints = get_type_hints(route.handler)
    answer = hints.pop("return")
    typed = {name: _CALLERS.get(kind, kind) for name, kind in hints.items()}
    typed |= {name: _by_contract(kind) for name, kind in hints.items() if name == "message"}
    typed |= dict.fromkeys(route.query, _ONE_OR_MORE)

    def handle(**given: Any) -> Any:
        return route.handler(**given | {name: given.get(name) or [] for name in route.query})

    handle.__name__ = route.handler.__name__
    handle.__annotations__ = {**typed, "return": answer}
    handle.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=None if name in route.query else inspect.Parameter.empty,
            )
            for name, kind in typed.items()
        ],
        return_annotation=answer,
    )
    return handle


for _one in ROUTES:
    router.route(_one.path, method=_one.method, operation_id=_one.operation_id, tags=[_one.tag], summary=_one.summary)(
        _hinted(_one)
    )
