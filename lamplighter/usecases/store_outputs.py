"""Outputs of a run: announced, uploaded to a write-once key of their own, then shown."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lamplighter import keys
from lamplighter.contract.report import NewOutput, Orders, OutputStored, OutputTarget
from lamplighter.domain.data import Datum, alias_in, tags_in
from lamplighter.domain.executions import Execution
from lamplighter.domain.machines import Machine
from lamplighter.errors import Invalid, NotFound
from lamplighter.intents import intend
from lamplighter.ports import Write
from lamplighter.records import again_on_conflict, find, need, new
from lamplighter.usecases.compose_job import call_of
from lamplighter.usecases.report import held, held_and_ordered
from lamplighter.world import World

MAX_NAME_BYTES = 1024
MAX_METADATA_BYTES = 100_000


@again_on_conflict
def announce_output(machine: Machine, execution_id: str, message: NewOutput, *, world: World) -> OutputTarget:
    """Where to put the bytes. The same epoch, name and content always mean the same output.

    Raises `Invalid` for a name or metadata that cannot be kept, `StaleEpoch`.
    """
    lease = held(machine, execution_id, message, world=world)
    execution = need(world.metadata, Execution, keys.execution(execution_id), "this execution").value
    _refuse(message)
    output_key = keys.output(execution_id, _fingerprint(message))
    known = world.metadata.get(output_key)
    if known:
        datum = need(world.metadata, Datum, keys.datum(str(known.value["datum_id"])), "this output").value
        return _target(datum, world)
    datum = _datum(execution, message, world)
    world.metadata.transact(
        [
            lease.unchanged(),
            new(output_key, {"datum_id": datum.id, "name": datum.name}),
            new(keys.datum(datum.id), datum),
        ]
    )
    return _target(datum, world)


@again_on_conflict
def output_stored(
    machine: Machine, execution_id: str, output_id: str, message: OutputStored, *, world: World
) -> Orders:
    """The bytes are up: from here the datum is listed. Raises `Invalid` when the store does not have them in full."""
    lease, orders = held_and_ordered(machine, execution_id, message, world=world)
    execution = need(world.metadata, Execution, keys.execution(execution_id), "this execution")
    stored = need(world.metadata, Datum, keys.datum(output_id), "this output")
    datum = stored.value
    if datum.execution_id != execution_id:
        raise NotFound("this output does not exist")
    if datum.stored:
        return orders
    _refuse_missing_bytes(datum, world)
    writes: list[Write] = [
        lease.unchanged(),
        stored.becomes(replace(datum, stored=True, aliases=_aliases(datum))),
        new(keys.datum_in_project(datum.project_id, datum.id), {"datum_id": datum.id}),
        execution.becomes(replace(execution.value, n_outputs=execution.value.n_outputs + 1, mtime=world.now())),
    ]
    if alias := alias_in(datum.metadata):
        writes.append(intend(world, "set_alias", project_id=datum.project_id, name=alias, datum_id=datum.id))
    world.metadata.transact(writes)
    world.nudge()
    return orders


@again_on_conflict
def describe_output(datum_id: str, metadata: Mapping[str, Any], *, world: World) -> None:
    """Lay the final metadata of a file over what was known when it was uploaded. Repeatable."""
    stored = find(world.metadata, Datum, keys.datum(datum_id))
    if not stored or not stored.value.stored:
        return
    datum = stored.value
    merged = {**datum.metadata, **metadata}
    if merged == datum.metadata:
        return
    described = replace(datum, metadata=merged, tags=tuple(dict.fromkeys((*datum.tags, *tags_in(merged)))))
    writes: list[Write] = [stored.becomes(replace(described, aliases=_aliases(described)))]
    alias = alias_in(merged)
    if alias and alias not in datum.aliases:
        writes.append(intend(world, "set_alias", project_id=datum.project_id, name=alias, datum_id=datum.id))
    world.metadata.transact(writes)


def _refuse(message: NewOutput) -> None:
    parts = message.name.split("/")
    odd = any(unicodedata.category(c) in ("Cc", "Cs") for c in message.name)
    if odd or any(p in ("", ".", "..") for p in parts) or len(message.name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise Invalid({"name": [f"{message.name!r} cannot be the name of an output."]})
    if message.size < 0 or any(len(h) != n for h, n in ((message.md5, 32), (message.sha1, 40), (message.sha256, 64))):
        raise Invalid({"sha256": ["Size and the hex digests md5, sha1 and sha256 are needed."]})
    if len(repr(message.metadata)) > MAX_METADATA_BYTES:
        raise Invalid({"metadata": [f"At most {MAX_METADATA_BYTES} bytes of metadata a file."]})


def _fingerprint(message: NewOutput) -> str:
    text = f"{message.epoch}\n{message.sha256}\n{message.name}"
    return hashlib.sha256(text.encode()).hexdigest()


def _datum(execution: Execution, message: NewOutput, world: World) -> Datum:
    store_name = execution.upload_store or world.stores.home("outputs")
    datum_id = world.new_id()
    object_key = f"data/exec-{execution.id}/{message.epoch}/{datum_id}/{message.sha256[:16]}"
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
        epoch_n=message.epoch.n,
        file_mtime=datetime.fromtimestamp(mtime, UTC) if mtime is not None and 0 <= mtime < 2**40 else None,
        tags=tags_in(message.metadata),
        metadata=dict(message.metadata),
    )


def _target(datum: Datum, world: World) -> OutputTarget:
    if datum.stored:
        return OutputTarget(datum.id, None)
    store = world.stores.named(datum.store)
    target = store.presign_put(datum.object_key, seconds=world.installation.presign_seconds, size=datum.size)
    return OutputTarget(datum.id, call_of(target))


def _refuse_missing_bytes(datum: Datum, world: World) -> None:
    try:
        size = world.stores.named(datum.store).head(datum.object_key).size
    except NotFound:
        raise Invalid.because(f"the store has no bytes of output {datum.name}: upload it again", "not_stored") from None
    if size != datum.size:
        raise Invalid.because(f"the store has {size} bytes of output {datum.name}, announced were {datum.size}")


def _aliases(datum: Datum) -> tuple[str, ...]:
    alias = alias_in(datum.metadata)
    return tuple(dict.fromkeys((*datum.aliases, alias))) if alias else datum.aliases
