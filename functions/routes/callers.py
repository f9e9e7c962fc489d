"""The caller as a route takes it: the first parameter of each, and which one a route's scheme asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.depends import Depends
from aws_lambda_powertools.event_handler.request import Request

from functions.authentication import Scheme
from functions.callers import AgentCall, Call, JobCall, JoinCall, PersonCall


def _the_call(request: Request) -> Any:
    return request.context["call"]


Anybody = Annotated[Call, Depends(_the_call)]
Person = Annotated[PersonCall, Depends(_the_call)]
Joiner = Annotated[JoinCall, Depends(_the_call)]
Agent = Annotated[AgentCall, Depends(_the_call)]
Job = Annotated[JobCall, Depends(_the_call)]

CALLER_OF: Mapping[Scheme, Any] = {"Public": Anybody, "Token": Person, "Join": Joiner, "Session": Agent, "Job": Job}
