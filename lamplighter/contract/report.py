"""What an agent reports and what it is told: registration, lease, heartbeat, events, outputs, end.

All calls are `POST /api/worker/v0/<path>` with a JSON body and answer JSON. Every body may grow fields; both sides ignore
what they do not know.

| Path | Body | Answer | Authorization |
|---|---|---|---|
| nonce/ | {} | Nonce | none |
| register/ | Register | Registered | `Join <join token>`, or `Proof <base64 of a Proof>` |
| lease/ | Claim | Offer | `Session <session token>` |
| executions/{id}/inputs/ | Held | Inputs | Session |
| executions/{id}/started/ | Started | Orders | Session |
| executions/{id}/heartbeat/ | Heartbeat | Orders | Session |
| executions/{id}/events/ | Events | EventsStored | Session |
| executions/{id}/outputs/ | NewOutput | OutputTarget | Session |
| executions/{id}/outputs/{output_id}/stored/ | OutputStored | Orders | Session |
| executions/{id}/outputs/several/ | NewOutputs | OutputTargets | Session |
| executions/{id}/outputs/several/stored/ | OutputsStored | OutputsKept | Session |
| executions/{id}/finish/ | Finish | Finished | Session |
| farewell/ | Farewell | {} | Session |

Refusals carry `{"code": ..., "message": ...}`: 401 `not_authenticated` (the session is over: power off; a proof does not count:
make a fresh one), 403 `forbidden` (this machine was given up: power off), 404 `not_found`,
409 `stale_epoch` (stop the container, forget the job), 409 `sequence_gap` with `expected` (send again from there),
413 `too_large` or `answer_too_large` (the same call would be refused for ever; a 413 of anybody on the way counts as well),
429/5xx (try again later, with jitter; nothing was lost).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lamplighter.contract.job import Call, Epoch, Input, Job, Runtime

Outcome = Literal["complete", "error", "stopped", "interrupted", "lost"]
"""How an attempt ended: exit code 0; a failure of the user's run; stopped on request or by a rule; the machine was taken
away; the agent could not run it for reasons of its own (counts as an infrastructure loss)."""

StopReason = Literal["user", "time_limit", "no_output", "condition", "shutdown", "interruption", "lost_lease"]
"""Why a run is stopped. The control plane orders "user" alone; the others are the agent's own findings."""

Notice = Literal["", "rebalance", "interruption"]
"""What a machine's cloud has said of its end: nothing; that it may be near; that it comes within two minutes. It only grows
graver. After either the machine takes no other job; after an interruption it winds up the one it has."""


MOST_OUTPUTS = 30
"""Outputs in one call: what is written for them must fit in one transaction."""


@dataclass(frozen=True, slots=True)
class Nonce:
    """What the next proof must hold. It is good for one registration within five minutes."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Proof:
    """Who a machine is, as its cloud can confirm: `evidence` is what that cloud's identity asks for, with the nonce in it.

    For "ec2" it is a signed request, as `lamplighter.contract.ec2_proof` says: `method`, `url`, `headers` and `body`.
    """

    cloud: str
    nonce: str = field(repr=False)
    evidence: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Register:
    """An agent introduces itself. Repeatable until the first lease, with the same join token or with a fresh proof each time.

    `machine_id` is empty where a proof says which machine it is.
    """

    machine_id: str
    agent_version: str
    runtime: Runtime
    hostname: str
    cpus: int
    memory_mib: int
    disk_free_mib: int
    runtime_detail: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """The session token, how often to speak, and the machine's id for an agent that did not know it."""

    session: str
    heartbeat_seconds: float
    poll_seconds: float
    deadman_seconds: float
    machine_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish for work. The agent makes `claim_id`; asked again with the same one, the same lease is answered."""

    claim_id: str


@dataclass(frozen=True, slots=True)
class Offer:
    """`work` carries a job; `wait` says when to ask again; `drain` says to power off: no lease will come any more."""

    order: Literal["work", "wait", "drain"]
    job: Job | None = None
    wait_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """A call under a lease that says nothing else."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Inputs:
    """The resolved inputs, with calls that are valid for a limited time: ask again for fresh ones."""

    inputs: tuple[Input, ...]
    code: Call | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """User code runs from now on. `image_digest` is empty for the process runtime, `interpreter` says what ran instead."""

    epoch: Epoch
    runtime: Runtime
    image_digest: str = ""
    interpreter: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Still here. `seq` rises; one that is older than the last on record is ignored. `phase` is shown to people
    ("fetching inputs: 2 of 5"). `notice` is what the machine has heard from its cloud by itself.
    """

    epoch: Epoch
    seq: int
    phase: str = ""
    notice: Notice = ""


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do: `stop` and `notice` are repeated in each answer from the first on. `watched` asks for log batches every 1-2 s.

    `notice` is what the control plane has heard from the machine's cloud; it counts as if the machine had heard it itself.
    `lease_seconds` is what is left of the lease, at least for so long from when the call was sent; not every call renews it.
    """

    stop: StopReason | None = None
    lease_seconds: int = 900
    heartbeat_seconds: float = 20.0
    watched: bool = False
    notice: Notice = ""


@dataclass(frozen=True, slots=True)
class Events:
    """Log lines with the sequence numbers first_seq, first_seq+1, ... An answered batch renews the lease as a heartbeat does.

    Each line is `[time, stream, message]`: microseconds since the Unix epoch (strictly rising within an execution), stream 0
    stdout, 1 stderr, 2 status, text without its line end. `metadata` names the lines that are metadata points: `[seq, object]`.
    At most 5,000 lines and 4 MiB a batch.
    """

    epoch: Epoch
    first_seq: int
    lines: tuple[tuple[int, int, str], ...] = field(repr=False)
    metadata: tuple[tuple[int, Mapping[str, Any]], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class EventsStored:
    """All events below `next_seq` are stored."""

    next_seq: int
    orders: Orders = field(default_factory=Orders)


@dataclass(frozen=True, slots=True)
class NewOutput:
    """A finished file below the outputs directory. The same epoch, name and sha256 give the same output id."""

    epoch: Epoch
    name: str
    size: int
    md5: str
    sha1: str
    sha256: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    file_mtime: float | None = None


@dataclass(frozen=True, slots=True)
class OutputTarget:
    """Where to PUT the bytes; `call` is None when they are stored already. `refused` says why, among several outputs, this one
    cannot be kept; it has no id then. `code` is "too_large" when the reason is that no store takes a file of this size.
    """

    output_id: str
    call: Call | None
    refused: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class OutputStored:
    """The bytes of this output are up: it may be shown."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class NewOutputs:
    """Several finished files at once, at most MOST_OUTPUTS, each as if it were announced alone under this `epoch`."""

    epoch: Epoch
    outputs: tuple[NewOutput, ...]


@dataclass(frozen=True, slots=True)
class OutputTargets:
    """What `NewOutputs` asked for, in its order."""

    targets: tuple[OutputTarget, ...]


@dataclass(frozen=True, slots=True)
class OutputsStored:
    """The bytes of these outputs are up, at most MOST_OUTPUTS: they may be shown."""

    epoch: Epoch
    output_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutputsKept:
    """All of `OutputsStored` are shown, but for those in `faults`: by id, what is wrong with them."""

    faults: Mapping[str, str] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an attempt. All events and outputs were acknowledged before this is sent.

    `last_seq` is the number of events sent in all; `outputs` the output ids; `output_metadata` what the sidecars and
    `valohai.metadata.jsonl` said at the end about files by name. `reason` is for people. `notice` tells whether an attempt that
    was interrupted ended because the machine's cloud takes it back, or for another shutdown.
    """

    epoch: Epoch
    outcome: Outcome
    last_seq: int
    exit_code: int | None = None
    reason: str = ""
    outputs: tuple[str, ...] = ()
    output_metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    run_seconds: float | None = None
    notice: Notice = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end is recorded; `status` is the execution's status now."""

    status: str


@dataclass(frozen=True, slots=True)
class Farewell:
    """The machine powers off of its own will."""

    reason: str
