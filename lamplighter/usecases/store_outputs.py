"""Outputs of a run: announced, uploaded to a write-once key of their own, then shown."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lamplighter import keys
from lamplighter.contract.job import Epoch
from lamplighter.contract.report import (
    MOST_OUTPUTS,
    NewOutput,
    NewOutputs,
    Orders,
    OutputsKept,
    OutputsStored,
    OutputStored,
    OutputTarget,
    OutputTargets,
)
from lamplighter.domain.data import Datum, alias_in, tags_in
from lamplighter.domain.executions import Execution
from lamplighter.domain.machines import Machine
from lamplighter.errors import Invalid, NotFound, TooLarge
from lamplighter.intents import intend
from lamplighter.ports import Key, Write
from lamplighter.records import Stored, again_on_conflict, find, find_many, need, new
from lamplighter.usecases.compose_job import call_of
from lamplighter.usecases.report import held, held_and_ordered
from lamplighter.world import World

MAX_NAME_BYTES = 1024
MAX_METADATA_BYTES = 100_000
UNKNOWN_OUTPUT = "this output does not exist"


def announce_output(machine: Machine, execution_id: str, message: NewOutput, *, world: World) -> OutputTarget:
    """`announce_outputs` for one. Raises `Invalid` for a name or metadata that cannot be kept, `TooLarge`, `StaleEpoch`."""
    one = NewOutputs(message.epoch, (message,))
    target = announce_outputs(machine, execution_id, one, world=world).targets[0]
    if target.code == TooLarge.code:
        raise TooLarge(target.refused)
    if target.refused:
        raise Invalid.because(target.refused)
    return target


@again_on_conflict
def announce_outputs(machine: Machine, execution_id: str, message: NewOutputs, *, world: World) -> OutputTargets:
    """Where to put the bytes. The same epoch, name and content always mean the same output. What cannot be kept is refused alone.

    Raises `Invalid` for too many at once, `StaleEpoch`.
    """
    lease = held(machine, execution_id, message, world=world)
    execution = need(world.metadata, Execution, keys.execution(execution_id), "this execution").value
    _refuse_many(message.outputs)
    faults = [_fault(output) for output in message.outputs]
    places = [keys.output(execution_id, _fingerprint(message.epoch, output)) for output in message.outputs]
    data = _announced(places, world)
    writes: list[Write] = [lease.unchanged()]
    targets: list[OutputTarget] = []
    for output, place, fault in zip(message.outputs, places, faults, strict=True):
        if fault:
            targets.append(OutputTarget("", None, fault))
            continue
        datum = data.get(place) or _datum(execution, message.epoch, output, world)
        targets.append(_target(datum, world))
        if targets[-1].output_id and place not in data:
            data[place] = datum
            writes += [new(place, {"datum_id": datum.id, "name": datum.name}), new(keys.datum(datum.id), datum)]
    if len(writes) > 1:
        world.metadata.transact(writes)
    return OutputTargets(tuple(targets))


def output_stored(
    machine: Machine, execution_id: str, output_id: str, message: OutputStored, *, world: World
) -> Orders:
    """`outputs_stored` for one. Raises `NotFound`, and `Invalid` when the store does not have its bytes in full."""
    kept = outputs_stored(machine, execution_id, OutputsStored(message.epoch, (output_id,)), world=world)
    if kept.faults.get(output_id) == UNKNOWN_OUTPUT:
        raise NotFound(UNKNOWN_OUTPUT)
    if kept.faults:
        raise Invalid.because(kept.faults[output_id], "not_stored")
    return kept.orders


@again_on_conflict
def outputs_stored(machine: Machine, execution_id: str, message: OutputsStored, *, world: World) -> OutputsKept:
    """The bytes are up: from here the data are listed, each for itself: one whose bytes are not there in full holds up no other.

    Raises `Invalid` for too many at once, `StaleEpoch`, and what the store raises when it is away: repeat it then.
    """
    lease, orders = held_and_ordered(machine, execution_id, message, world=world)
    execution = need(world.metadata, Execution, keys.execution(execution_id), "this execution")
    _refuse_many(message.output_ids)
    wanted = list(dict.fromkeys(message.output_ids))
    found = {s.value.id: s for s in find_many(world.metadata, Datum, [keys.datum(i) for i in wanted])}
    faults: dict[str, str] = {}
    arrived: list[Stored[Datum]] = []
    for output_id in wanted:
        stored = found.get(output_id)
        if not stored or stored.value.execution_id != execution_id:
            faults[output_id] = UNKNOWN_OUTPUT
        elif not stored.value.stored:
            fault = _missing_bytes(stored.value, world)
            if fault:
                faults[output_id] = fault
            else:
                arrived.append(stored)
    if arrived:
        n_outputs = execution.value.n_outputs + len(arrived)
        shown = execution.becomes(replace(execution.value, n_outputs=n_outputs, mtime=world.now()))
        world.metadata.transact([lease.unchanged(), shown, *(w for stored in arrived for w in _listed(stored, world))])
        world.nudge()
    return OutputsKept(faults, orders)


def _listed(stored: Stored[Datum], world: World) -> list[Write]:
    datum = stored.value
    writes: list[Write] = [
        stored.becomes(replace(datum, stored=True, aliases=_aliases(datum))),
        new(keys.datum_in_project(datum.project_id, datum.id), {"datum_id": datum.id}),
    ]
    if alias := alias_in(datum.metadata):
        writes.append(intend(world, "set_alias", project_id=datum.project_id, name=alias, datum_id=datum.id))
    return writes


def _announced(places: list[Key], world: World) -> dict[Key, Datum]:
    """The outputs that were announced before, by their places."""
    known = world.metadata.get_many(list(dict.fromkeys(places)))
    ids = {place: str(record.value["datum_id"]) for place, record in known.items()}
    data = {s.value.id: s.value for s in find_many(world.metadata, Datum, [keys.datum(i) for i in ids.values()])}
    return {place: data[datum_id] for place, datum_id in ids.items() if datum_id in data}


@again_on_conflict
def describe_output(datum_id: str, metadata: Mapping[str, Any], *, world: World) -> None:
    """Lay the final metadata of a file over what was known when it was uploaded. Repeatable."""
    stored = find(world.metadata, Datum, keys.datum(datum_id))
    if not stored or not stored.value.stored:
        return
    datum = stored.value
    if datum.is_described_by(metadata):
        return
    merged = {**datum.metadata, **metadata}
    described = replace(datum, metadata=merged, tags=tuple(dict.fromkeys((*datum.tags, *tags_in(merged)))))
    writes: list[Write] = [stored.becomes(replace(described, aliases=_aliases(described)))]
    alias = alias_in(merged)
    if alias and alias not in datum.aliases:
        writes.append(intend(world, "set_alias", project_id=datum.project_id, name=alias, datum_id=datum.id))
    world.metadata.transact(writes)


def _refuse_many(several: Sequence[Any]) -> None:
    if len(several) > MOST_OUTPUTS:
        raise Invalid({"outputs": [f"At most {MOST_OUTPUTS} outputs a call."]})


def _fault(output: NewOutput) -> str:
    """Why it cannot be kept, or nothing."""
    parts = output.name.split("/")
    odd = any(unicodedata.category(c) in ("Cc", "Cs") for c in output.name)
    if odd or any(p in ("", ".", "..") for p in parts) or len(output.name.encode(errors="replace")) > MAX_NAME_BYTES:
        return f"{output.name!r} cannot be the name of an output."
    if output.size < 0 or any(len(h) != n for h, n in ((output.md5, 32), (output.sha1, 40), (output.sha256, 64))):
        return "Size and the hex digests md5, sha1 and sha256 are needed."
    if len(repr(output.metadata)) > MAX_METADATA_BYTES:
        return f"At most {MAX_METADATA_BYTES} bytes of metadata a file."
    return ""


def _fingerprint(epoch: Epoch, output: NewOutput) -> str:
    text = f"{epoch}\n{output.sha256}\n{output.name}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _datum(execution: Execution, epoch: Epoch, message: NewOutput, world: World) -> Datum:
    store_name = execution.upload_store or world.stores.home("outputs")
    datum_id = world.new_id()
    object_key = f"data/exec-{execution.id}/{epoch}/{datum_id}/{message.sha256[:16]}"
    mtime = message.file_mtime
    return Datum(
        id=datum_id,
        organisation_id=execution.organisation_id,
        project_id=execution.project_id,
        name=message.name,
        size=message.size,
        store=store_name,
        object_key=object_key,
        uri=world.stores.uri(store_name, object_key),
        ctime=world.now(),
        md5=message.md5,
        sha1=message.sha1,
        sha256=message.sha256,
        execution_id=execution.id,
        execution_counter=execution.counter,
        epoch_n=epoch.n,
        file_mtime=datetime.fromtimestamp(mtime, UTC) if mtime is not None and 0 <= mtime < 2**40 else None,
        tags=tags_in(message.metadata),
        metadata=dict(message.metadata),
    )


def _target(datum: Datum, world: World) -> OutputTarget:
    """Where its bytes go, or the refusal of more than its store takes."""
    if datum.stored:
        return OutputTarget(datum.id, None)
    store = world.stores.named(datum.store)
    try:
        target = store.presign_put(datum.object_key, seconds=world.installation.presign_seconds, size=datum.size)
    except TooLarge as error:
        return OutputTarget("", None, str(error), TooLarge.code)
    return OutputTarget(datum.id, call_of(target))


def _missing_bytes(datum: Datum, world: World) -> str:
    """What the store lacks of it, or nothing."""
    try:
        size = world.stores.named(datum.store).head(datum.object_key).size
    except NotFound:
        return f"the store has no bytes of output {datum.name}: upload it again"
    return (
        "" if size == datum.size else f"the store has {size} bytes of output {datum.name}, announced were {datum.size}"
    )


def _aliases(datum: Datum) -> tuple[str, ...]:
    alias = alias_in(datum.metadata)
    return tuple(dict.fromkeys((*datum.aliases, alias))) if alias else datum.aliases
