"""What use cases ask of the world, in domain words.

Every port has a conformance suite under `tests/conformance/` that each adapter runs; a promise made here that no suite
checks is a fault of the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Literal, Protocol

Json = Mapping[str, Any]
"""A JSON object: str, int, float, bool, None, lists and objects of these. Money and times travel as text."""

Clock = Callable[[], datetime]
"""Gives the present moment, UTC, aware, with microseconds."""

NewId = Callable[[], str]
"""Gives a fresh UUIDv7 as text; later ids sort after earlier ones."""


# --- Metadata -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where a record lives: rows of one `partition` are ordered by `sort` (as UTF-8 bytes). Neither is empty."""

    partition: str
    sort: str


@dataclass(frozen=True, slots=True)
class Record:
    """A stored value. `version` starts at 1 and rises by one with every write; a deleted key starts anew."""

    key: Key
    version: int
    value: Json


ABSENT = 0
"""Expectation: there is no record at this key."""

ANY: Literal[-1] = -1
"""Expectation: none. Only for writes that are right whatever was there before (see each use)."""


@dataclass(frozen=True, slots=True)
class Put:
    """Write `value` if the record's version is `expects` (a version, ABSENT, or ANY)."""

    key: Key
    value: Json
    expects: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the record if its version is `expects`; removing what is ABSENT under ANY is no error."""

    key: Key
    expects: int


@dataclass(frozen=True, slots=True)
class Check:
    """Write nothing, but refuse the transaction unless the record's version is `expects`."""

    key: Key
    expects: int


Write = Put | Delete | Check

MAX_TRANSACTION_WRITES = 100
"""DynamoDB's limit of actions per transaction; every adapter keeps it so that no use case outgrows it."""

MAX_RECORD_BYTES = 400_000
"""DynamoDB's limit of an item is 400 KB; every adapter refuses a larger value (as compact UTF-8 JSON, plus its key)."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a query. `cursor` is opaque, and None when nothing is left."""

    records: tuple[Record, ...]
    cursor: str | None


class Metadata(Protocol):
    """Small records with conditional writes. Reads see every write that was acknowledged before they began.

    A read of several records (`get_many`, `query`) that meets a transaction may see some of its writes and not others, as in
    DynamoDB ("read-committed" in its developer guide, "Transactions: how it works"): rely on what was read by its version.
    """

    def get(self, key: Key) -> Record | None:
        """The record at `key`, or None."""

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        """Those of `keys` that exist; any number of keys."""

    def query(
        self,
        partition: str,
        *,
        prefix: str = "",
        after: str | None = None,
        before: str | None = None,
        newest_first: bool = False,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page:
        """Records of `partition` whose sort key starts with `prefix` and lies strictly between `after` and `before`,
        in order (or reverse order with `newest_first`), at most `limit` (>= 1) of them. `cursor` continues an earlier page of
        the same query. A page may be shorter than `limit` while `cursor` is not None.
        """

    def transact(self, writes: Sequence[Write]) -> None:
        """Do all of `writes` or none. Durable when it returns.

        Raises `Conflict` when an expectation fails, `ValueError` for more than MAX_TRANSACTION_WRITES writes, none at all,
        two writes to one key, or a value over MAX_RECORD_BYTES; `Throttled` or `Unavailable` when nothing may be known
        about the outcome: repeat with the same expectations, and a Conflict may then mean that the first try succeeded.
        """


# --- Stores ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a store: its full key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Target:
    """An HTTP call that somebody without our credentials may make once the store has signed it."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Objects by key. Keys are relative paths of our own making, never a user's text unchecked."""

    def put(self, key: str, body: BinaryIO, *, size: int) -> None:
        """Write the object once, streamed. Raises `AlreadyWritten` if the key is taken; a torn write leaves nothing."""

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces of at most 1 MiB. Raises `NotFound`."""

    def head(self, key: str) -> ObjectInfo:
        """Size of the object. Raises `NotFound`."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in key order."""

    def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""

    def presign_get(self, key: str, *, seconds: int, filename: str | None = None) -> Target:
        """A GET of this object, valid for `seconds`. With `filename` the answer asks to be saved under that name."""

    def presign_put(self, key: str, *, seconds: int, size: int) -> Target:
        """A PUT of exactly `size` bytes to this key, valid for `seconds`, which cannot replace an existing object.

        Raises `TooLarge` for a size that the store does not take in one PUT, with its limit.
        """


Purpose = Literal["code", "logs", "outputs"]
"""What an object is for: uploaded and fetched code, segments of logs, files that runs wrote."""


class Stores(Protocol):
    """The stores of this installation, by name."""

    def home(self, purpose: Purpose) -> str:
        """The name of the store that new objects of this purpose go to when nobody says otherwise."""

    def named(self, name: str) -> Store:
        """The store. Raises `NotFound` naming the stores there are."""

    def uri(self, name: str, key: str) -> str:
        """How people write this object, e.g. `s3://bucket/prefix/key`."""

    def locate(self, uri: str) -> tuple[str, str] | None:
        """The store and key that a URI means, or None when no store of ours holds it."""


# --- Clouds ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A machine to start. The same `launch_token` always means the same machine, however often it is sent.

    A repeated request is the same in every field. `gpu_spec` is not empty when a machine with GPUs is meant.
    """

    launch_token: str
    machine_id: str
    installation: str
    environment: str
    control_url: str
    join_token: str
    options: Json
    requested_at: datetime | None = None
    gpu_spec: str = ""


@dataclass(frozen=True, slots=True)
class CloudMachine:
    """A machine as its cloud sees it. `state` is "starting", "running", "stopped" or "gone"; `detail` says why, if known.

    One that is stopped works no more but is not gone: it is billed until it is ended.
    """

    machine_id: str
    cloud_id: str
    state: Literal["starting", "running", "stopped", "gone"]
    detail: str = ""


class Cloud(Protocol):
    """A provider of machines. Calls return quickly: long work is accepted and asked about again."""

    def launch(self, request: LaunchRequest) -> CloudMachine:
        """Start the machine, or find the one this token started. A token whose machine is gone stays gone.

        Raises `NoCapacity` (or its kind `QuotaReached`), `LaunchRefused`, `Throttled`, `Unavailable`.
        """

    def describe(self, installation: str) -> tuple[CloudMachine, ...]:
        """Every machine of this installation that is not yet forgotten by the cloud; a new one may be missing for a while. Where a
        cloud holds a second body of one machine, that one bears its `cloud_id` as `machine_id` too.

        Raises `Unavailable` or `Throttled` rather than give a partial answer.
        """

    def terminate(self, machine_id: str) -> None:
        """Ask the cloud to end the machine with all it runs. Repeatable; a machine that is gone, or never was, is no error. The id
        is one that `describe` gave, or the `cloud_id` of a single body.

        Raises `NotYet` while it is not gone: ask again.
        """


class Identity(Protocol):
    """Knows the machines of one cloud by what only they can say."""

    def cloud_id(self, proof: Json) -> str:
        """The cloud's own id of the machine that made `proof`. Raises `NotAuthenticated`, `Throttled`, `Unavailable`."""


# --- Workflow -------------------------------------------------------------------------------------------------------


class Workflow(Protocol):
    """Runs the definitions in `state_machines/`. Ids travel through it, payloads do not."""

    def start(self, definition: str, name: str, argument: Json) -> None:
        """Start `definition` under `name`. A second start of the same name with the same argument does nothing.

        Raises `AlreadyExists` if the name was used with another argument, `NotFound` for an unknown definition.
        """

    def resume(self, token: str, output: Json) -> None:
        """Answer a waiting state. A token that was answered, timed out or stopped is no error: the flow has moved on."""

    def fail(self, token: str, error: str, cause: str) -> None:
        """Fail a waiting state with an error name that the definition may catch. Repeats as in `resume`."""

    def stop(self, name: str, cause: str) -> None:
        """End the flow. One that has ended, or never was, is no error."""


# --- Git hosts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GitCommit:
    """A commit that a ref points at. `identifier` is the 40-hex sha."""

    identifier: str
    ref: str
    message: str
    time: datetime


class GitHost(Protocol):
    """A repository that somebody else keeps."""

    def resolve(self, url: str, ref: str) -> GitCommit:
        """What `ref` points at now. Raises `NotFound` (no such ref), `Forbidden` (credentials), `Unavailable`, `Invalid` (URL)."""

    def archive(self, url: str, commit: GitCommit, target: BinaryIO) -> None:
        """Write the tree of the commit to `target` as a gzip tar. Raises as `resolve`."""


# --- Blueprints (valohai.yaml) --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepInput:
    """An input that a step declares."""

    name: str
    urls: tuple[str, ...]
    optional: bool = False
    keep_directories: Literal["none", "full", "suffix"] = "none"
    filename: str | None = None
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step with a request's values filled in: what will run."""

    step: str
    image: str
    command: tuple[str, ...]
    script: str
    parameters: Json
    inputs: tuple[StepInput, ...]
    environment: str | None
    environment_variables: Mapping[str, str]
    environment_variable_groups: tuple[str, ...]
    time_limit: int | None
    no_output_timeout: int | None
    stop_condition: str | None
    upload_store: str | None
    autorestart: bool
    mounts: tuple[Json, ...]
    resources: Json
    icon: str | None = None


class Blueprints(Protocol):
    """Reads `valohai.yaml`: hostile until proven otherwise."""

    def read(self, text: bytes) -> list[Any]:
        """The checked content as plain JSON. Raises `Invalid` under the field "yaml" that says where and what is wrong."""

    def plan(
        self,
        config: Sequence[Any],
        step: str,
        *,
        parameters: Json,
        inputs: Mapping[str, Sequence[str] | str],
        image: str | None = None,
        command: Sequence[str] | str | None = None,
        environment_variables: Mapping[str, str] | None = None,
    ) -> StepPlan:
        """Merge a request into the step. A parameter that is missing or None takes the step's default; inputs that are not
        named keep theirs. Raises `Invalid` with every fault of the request, per field.
        """


# --- Secrets --------------------------------------------------------------------------------------------------------


class Secrets(Protocol):
    """Values that never enter the metadata, a log or an answer."""

    def put(self, name: str, value: str) -> None:
        """Keep `value` under `name`, replacing an older one."""

    def get(self, name: str) -> str:
        """The value. Raises `NotFound`."""

    def delete(self, name: str) -> None:
        """Forget it; forgetting what is not there is no error."""
