"""The worker API: agents register, lease, report; user code in a run calls back. The contract is `lamplighter.contract`.

One table, of the standard library alone: `functions.routes.workers` serves and describes it with everything else, and a door
that must start quickly answers from it directly. Each function takes its proven caller, the parts of the path by name, the
values of `query` fields, and the body as `message` if it reads one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from functions.callers import AgentCall, Call, JobCall, JoinCall
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
    NewOutputs,
    Nonce,
    Offer,
    Orders,
    OutputsKept,
    OutputsStored,
    OutputStored,
    OutputTarget,
    OutputTargets,
    Register,
    Registered,
    Started,
)
from lamplighter.contract.wire import decode
from lamplighter.usecases import finish_execution, job_calls, lease_job, machines, registration, report, store_outputs

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class WorkerRoute:
    """One call of the worker API. `query` names the fields that `handler` takes as lists of texts."""

    method: str
    path: str
    operation_id: str
    summary: str
    handler: Handler
    tag: str
    query: tuple[str, ...] = ()


ROUTES: list[WorkerRoute] = []
"""Every call, in the order in which they are tried."""

_WORKER = "/api/worker/v0"
_EXECUTION = f"{_WORKER}/executions/<execution_id>"


def _route(path: str, operation_id: str, summary: str, **more: Any) -> Callable[[Handler], Handler]:
    def kept(handler: Handler) -> Handler:
        ROUTES.append(
            WorkerRoute(
                **{"method": "POST", "tag": "worker", **more},
                path=path,
                operation_id=operation_id,
                summary=summary,
                handler=handler,
            )
        )
        return handler

    return kept


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing to say but that it is done."""


@dataclass(frozen=True, slots=True)
class StatusDetail:
    """What a run says of itself."""

    status_detail: str


@dataclass(frozen=True, slots=True)
class FetchableFile:
    """An on-demand file and where to get it."""

    filename: str
    url: str
    input_id: str


@dataclass(frozen=True, slots=True)
class FetchableInput:
    """The files of an on-demand input."""

    files: tuple[FetchableFile, ...]


@_route(f"{_WORKER}/nonce/", "makeNonce", "What a proof must hold")
def make_nonce(call: Call) -> Nonce:
    return registration.new_nonce(world=call.world)


@_route(f"{_WORKER}/register/", "registerMachine", "Get a session")
def register(call: JoinCall, message: Register) -> Registered:
    return registration.register_machine(call.credential, message, world=call.world)


@_route(f"{_WORKER}/lease/", "leaseJob", "Ask for work")
def lease(call: AgentCall, message: Claim) -> Offer:
    return lease_job.lease_job(call.session, message, world=call.world)


@_route(f"{_EXECUTION}/inputs/", "listInputs", "Inputs with fresh calls")
def list_inputs(call: AgentCall, execution_id: str, message: Held) -> Inputs:
    return report.list_inputs(call.machine, execution_id, message, world=call.world)


@_route(f"{_EXECUTION}/started/", "reportStarted", "User code runs")
def started(call: AgentCall, execution_id: str, message: Started) -> Orders:
    return report.started(call.machine, execution_id, message, world=call.world)


@_route(f"{_EXECUTION}/heartbeat/", "heartbeat", "Renew the lease")
def heartbeat(call: AgentCall, execution_id: str, message: Heartbeat) -> Orders:
    return report.heartbeat(call.machine, execution_id, message, world=call.world)


@_route(f"{_EXECUTION}/events/", "storeEvents", "Store log lines")
def store_events(call: AgentCall, execution_id: str, message: Events) -> EventsStored:
    return report.store_events(call.machine, execution_id, message, world=call.world)


@_route(f"{_EXECUTION}/outputs/", "announceOutput", "Where to put a file")
def announce_output(call: AgentCall, execution_id: str, message: NewOutput) -> OutputTarget:
    return store_outputs.announce_output(call.machine, execution_id, message, world=call.world)


@_route(f"{_EXECUTION}/outputs/several/", "announceOutputs", "Where to put several files")
def announce_outputs(call: AgentCall, execution_id: str, message: NewOutputs) -> OutputTargets:
    return store_outputs.announce_outputs(call.machine, execution_id, message, world=call.world)


@_route(f"{_EXECUTION}/outputs/several/stored/", "outputsStored", "Several files are up")
def outputs_stored(call: AgentCall, execution_id: str, message: OutputsStored) -> OutputsKept:
    return store_outputs.outputs_stored(call.machine, execution_id, message, world=call.world)


@_route(f"{_EXECUTION}/outputs/<output_id>/stored/", "outputStored", "A file is up")
def output_stored(call: AgentCall, execution_id: str, output_id: str, message: OutputStored) -> Orders:
    return store_outputs.output_stored(call.machine, execution_id, output_id, message, world=call.world)


@_route(f"{_EXECUTION}/finish/", "finishExecution", "The attempt has ended")
def finish(call: AgentCall, execution_id: str, message: Finish) -> Finished:
    return finish_execution.finish_execution(call.stored, execution_id, message, world=call.world)


@_route(f"{_WORKER}/farewell/", "farewell", "The machine powers off")
def farewell(call: AgentCall, message: Farewell) -> Empty:
    machines.farewell(call.stored, message, world=call.world)
    return Empty()


@_route(f"{_EXECUTION}/job/status-detail/", "setStatusDetail", "A run describes itself", tag="job")
def set_status_detail(call: JobCall, execution_id: str, message: StatusDetail) -> Empty:
    job_calls.set_status_detail(execution_id, call.job_token, message.status_detail, world=call.world)
    return Empty()


@_route(
    f"{_EXECUTION}/job/inputs/",
    "requestInputs",
    "Where to fetch on-demand files",
    method="GET",
    tag="job",
    query=("inputs",),
)
def request_inputs(call: JobCall, execution_id: str, inputs: list[str]) -> list[FetchableInput]:
    found = job_calls.request_inputs(execution_id, call.job_token, inputs, world=call.world)
    return [decode(FetchableInput, item) for item in found]
