"""The worker API: agents register, lease, report; user code in a run calls back. The contract is `lamplighter.contract`."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from pydantic import BaseModel, PlainValidator

from functions.presentation.common import Shape
from functions.routes.base import new_router
from functions.routes.callers import Agent, Anybody, Job, Joiner
from lamplighter.contract.report import (
    Claim,
    Events,
    EventsStored,
    Farewell,
    Finish,
    Finished,
    Heartbeat,
    Held,
    Inputs,
    NewOutput,
    Nonce,
    Offer,
    Orders,
    OutputStored,
    OutputTarget,
    Register,
    Registered,
    Started,
)
from lamplighter.contract.wire import decode
from lamplighter.usecases import finish_execution, job_calls, lease_job, machines, registration, report, store_outputs

router = new_router()

_EXECUTION = "/api/worker/v0/executions/<execution_id>"


def _by_contract(kind: type[Any]) -> PlainValidator:
    """A body is read by the contract's own rules: a log line may hold what pydantic would refuse."""
    return PlainValidator(lambda value: decode(kind, value), json_schema_input_type=kind)


class Empty(Shape):
    """Nothing to say but that it is done."""


class StatusDetail(BaseModel):
    """What a run says of itself."""

    status_detail: str


class FetchableFile(Shape):
    """An on-demand file and where to get it."""

    filename: str
    url: str
    input_id: str


class FetchableInput(Shape):
    """The files of an on-demand input."""

    files: list[FetchableFile]


@router.post("/api/worker/v0/nonce/", operation_id="makeNonce", tags=["worker"], summary="What a proof must hold")
def make_nonce(call: Anybody) -> Nonce:
    return registration.new_nonce(world=call.world)


@router.post("/api/worker/v0/register/", operation_id="registerMachine", tags=["worker"], summary="Get a session")
def register(call: Joiner, message: Annotated[Register, _by_contract(Register), Body()]) -> Registered:
    return registration.register_machine(call.credential, message, world=call.world)


@router.post("/api/worker/v0/lease/", operation_id="leaseJob", tags=["worker"], summary="Ask for work")
def lease(call: Agent, message: Annotated[Claim, _by_contract(Claim), Body()]) -> Offer:
    return lease_job.lease_job(call.session, message, world=call.world)


@router.post(f"{_EXECUTION}/inputs/", operation_id="listInputs", tags=["worker"], summary="Inputs with fresh calls")
def list_inputs(call: Agent, execution_id: str, message: Annotated[Held, _by_contract(Held), Body()]) -> Inputs:
    return report.list_inputs(call.machine, execution_id, message, world=call.world)


@router.post(f"{_EXECUTION}/started/", operation_id="reportStarted", tags=["worker"], summary="User code runs")
def started(call: Agent, execution_id: str, message: Annotated[Started, _by_contract(Started), Body()]) -> Orders:
    return report.started(call.machine, execution_id, message, world=call.world)


@router.post(f"{_EXECUTION}/heartbeat/", operation_id="heartbeat", tags=["worker"], summary="Renew the lease")
def heartbeat(call: Agent, execution_id: str, message: Annotated[Heartbeat, _by_contract(Heartbeat), Body()]) -> Orders:
    return report.heartbeat(call.machine, execution_id, message, world=call.world)


@router.post(f"{_EXECUTION}/events/", operation_id="storeEvents", tags=["worker"], summary="Store log lines")
def store_events(
    call: Agent, execution_id: str, message: Annotated[Events, _by_contract(Events), Body()]
) -> EventsStored:
    return report.store_events(call.machine, execution_id, message, world=call.world)


@router.post(f"{_EXECUTION}/outputs/", operation_id="announceOutput", tags=["worker"], summary="Where to put a file")
def announce_output(
    call: Agent, execution_id: str, message: Annotated[NewOutput, _by_contract(NewOutput), Body()]
) -> OutputTarget:
    return store_outputs.announce_output(call.machine, execution_id, message, world=call.world)


@router.post(
    f"{_EXECUTION}/outputs/<output_id>/stored/", operation_id="outputStored", tags=["worker"], summary="A file is up"
)
def output_stored(
    call: Agent,
    execution_id: str,
    output_id: str,
    message: Annotated[OutputStored, _by_contract(OutputStored), Body()],
) -> Orders:
    return store_outputs.output_stored(call.machine, execution_id, output_id, message, world=call.world)


@router.post(f"{_EXECUTION}/finish/", operation_id="finishExecution", tags=["worker"], summary="The attempt has ended")
def finish(call: Agent, execution_id: str, message: Annotated[Finish, _by_contract(Finish), Body()]) -> Finished:
    return finish_execution.finish_execution(call.stored, execution_id, message, world=call.world)


@router.post("/api/worker/v0/farewell/", operation_id="farewell", tags=["worker"], summary="The machine powers off")
def farewell(call: Agent, message: Annotated[Farewell, _by_contract(Farewell), Body()]) -> Empty:
    machines.farewell(call.stored, message, world=call.world)
    return Empty()


@router.post(
    f"{_EXECUTION}/job/status-detail/", operation_id="setStatusDetail", tags=["job"], summary="A run describes itself"
)
def set_status_detail(call: Job, execution_id: str, wanted: Annotated[StatusDetail, Body()]) -> Empty:
    job_calls.set_status_detail(execution_id, call.job_token, wanted.status_detail, world=call.world)
    return Empty()


@router.get(
    f"{_EXECUTION}/job/inputs/", operation_id="requestInputs", tags=["job"], summary="Where to fetch on-demand files"
)
def request_inputs(
    call: Job, execution_id: str, inputs: Annotated[list[str] | None, Query()] = None
) -> list[FetchableInput]:
    found = job_calls.request_inputs(execution_id, call.job_token, inputs or [], world=call.world)
    return [FetchableInput.model_validate(item) for item in found]
