"""The stores of this installation: those that it came with, and those that an administrator has added."""

from __future__ import annotations

import io
import json
import re
import threading
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast, get_args

from adapters.catalogue import adapter
from lamplighter import keys
from lamplighter.errors import Invalid, LamplighterError, NotFound, Unavailable
from lamplighter.ports import Metadata, Purpose, Secrets, Store
from lamplighter.records import Stored, again_on_conflict, find, new, walk

LOCAL = "local"
"""The store on this server's own disk, which is always there."""

SCHEME = "lamplighter"
"""How people write an object on the disk: `lamplighter://local/<key>`."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_OPTIONS = ("bucket", "prefix", "endpoint_url", "region", "conditional_writes")


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A store as recorded. `options` are the adapter's, credentials are in the secrets under `secret_name`."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    secret_name: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A store that is there without being added, and whose name nobody may take. Its adapter needs no credentials of ours."""

    store: Store
    row: StoreRow


class ConfiguredStores:
    """The `Stores` port over the rows in the metadata; a row that another process adds is seen at once.

    `homes` names the built-in store of each purpose. A row marked as the default takes over those in `movable`.
    """

    def __init__(
        self,
        metadata: Metadata,
        secrets: Secrets,
        built_in: Mapping[str, BuiltIn],
        homes: Mapping[Purpose, str],
        *,
        movable: Collection[Purpose],
    ) -> None:
        self.built_in = built_in
        self._metadata = metadata
        self._secrets = secrets
        self._homes = homes
        self._movable = movable
        self._made: dict[tuple[str, int], Store] = {}
        self._making = threading.Lock()

    def home(self, purpose: Purpose) -> str:
        home = self._homes[purpose]
        if purpose not in self._movable:
            return home
        return next((row.name for row in self.added() if row.default), home)

    def named(self, name: str) -> Store:
        if name in self.built_in:
            return self.built_in[name].store
        stored = find(self._metadata, StoreRow, keys.store(name)) if _NAME.fullmatch(name) else None
        if not stored:
            there = ", ".join(row.name for row in self.rows())
            raise NotFound(f'there is no store "{name[:100]}"; there are: {there}')
        with self._making:
            known = (name, stored.version)
            if known not in self._made:
                self._made[known] = make_store(stored.value, self._secrets)
            return self._made[known]

    def uri(self, name: str, key: str) -> str:
        return _base(self._row(name)) + key

    def locate(self, uri: str) -> tuple[str, str] | None:
        bases = [(_base(row), row.name) for row in self.rows()]
        matching = [(base, name) for base, name in bases if uri.startswith(base) and len(uri) > len(base)]
        if not matching:
            return None
        base, name = max(matching, key=lambda found: len(found[0]))
        return name, uri[len(base) :]

    def rows(self) -> list[StoreRow]:
        """Every store: the built-in ones, then those that were added, by name."""
        return [*(one.row for one in self.built_in.values()), *self.added()]

    def added(self) -> list[StoreRow]:
        """The stores that were added, by name."""
        return store_rows(self._metadata)

    def _row(self, name: str) -> StoreRow:
        if name in self.built_in:
            return self.built_in[name].row
        self.named(name)
        return next(row for row in self.added() if row.name == name)


def disk_stores(metadata: Metadata, secrets: Secrets, local: Store) -> ConfiguredStores:
    """The stores of one server: everything goes to its own disk, or to the store that is the default."""
    purposes = get_args(Purpose)
    built_in = {LOCAL: BuiltIn(local, StoreRow(LOCAL, "local_disk"))}
    return ConfiguredStores(metadata, secrets, built_in, dict.fromkeys(purposes, LOCAL), movable=purposes)


def store_rows(metadata: Metadata) -> list[StoreRow]:
    """The stores that were added, by name."""
    return [row.value for row in _rows(metadata)]


def make_store(row: StoreRow, secrets: Secrets) -> Store:
    """The adapter that the row describes. Raises `Invalid` for options it does not take, `NotFound` for an unknown type."""
    return _made(row, json.loads(secrets.get(row.secret_name)) if row.secret_name else {})


def prove_store(store: Store) -> None:
    """Write, look at, read and delete a small object under a fresh key. Raises what the store answers, and `Unavailable`
    when it gives back something else than it was given.
    """
    key, content = f"probe/{uuid.uuid4()}", b"Lamplighter looks whether this store works.\n"
    store.put(key, io.BytesIO(content), size=len(content))
    size, read = store.head(key).size, b"".join(store.get(key))
    store.delete(key)
    if (size, read) != (len(content), content):
        raise Unavailable(
            f"{key} was written with {len(content)} bytes and read with {len(read)}: they are not the same"
        )


@again_on_conflict
def set_default(metadata: Metadata, name: str, *, built_in: Collection[str] = (LOCAL,)) -> None:
    """Let new objects go to this store; what lies in others stays there. Repeatable. Raises `NotFound`.

    A name of `built_in` means that every purpose has its own home again.
    """
    rows = _rows(metadata)
    names = (*built_in, *(row.value.name for row in rows))
    if name not in names:
        raise NotFound(f'There is no store "{name[:100]}"; there are: {", ".join(names)}.')
    wanted = [(row, replace(row.value, default=row.value.name == name)) for row in rows]
    changes = [row.becomes(value) for row, value in wanted if value != row.value]
    if changes:
        metadata.transact(changes)


def _made(row: StoreRow, credentials: Mapping[str, str]) -> Store:
    unknown = set(row.options) - set(_OPTIONS)
    if unknown or not row.options.get("bucket"):
        raise Invalid({"options": [f"A store needs a bucket and takes {', '.join(_OPTIONS)}; not {sorted(unknown)}."]})
    try:
        return cast(Store, adapter("stores", row.type)(**row.options, **credentials))
    except ValueError as error:
        raise Invalid({"options": [f"No store can be made of these: {error}"]}) from error


def add_store(
    metadata: Metadata,
    secrets: Secrets,
    row: StoreRow,
    credentials: Mapping[str, str],
    *,
    prove: Callable[[Store], None] = prove_store,
    built_in: Collection[str] = (LOCAL,),
) -> StoreRow:
    """Record a store that `prove` finds nothing wrong with; with `default` it takes over from the one before.

    Raises `Invalid` for a name that is odd or taken, `Unavailable` with the store's own words; then nothing was added.
    """
    if not _NAME.fullmatch(row.name) or row.name in built_in:
        taken = ", ".join(built_in)
        raise Invalid({"name": [f"1 to 63 lower-case letters, digits and - are accepted, and taken are: {taken}."]})
    others = _rows(metadata)
    if any(other.value.name == row.name for other in others):
        raise Invalid({"name": ["A store with this name exists already."]})
    named = StoreRow(row.name, row.type, row.options, f"stores/{row.name}" if credentials else "", row.default)
    store = _made(named, credentials)
    try:
        prove(store)
    except LamplighterError as error:
        raise Unavailable(f"The store {row.name} does not work, and was not added: {error}") from error
    if credentials:
        secrets.put(named.secret_name, json.dumps(dict(credentials)))
    demoted = [o.becomes(replace(o.value, default=False)) for o in others if row.default and o.value.default]
    metadata.transact([new(keys.store(row.name), named), *demoted])
    return named


def _rows(metadata: Metadata) -> list[Stored[StoreRow]]:
    found = [find(metadata, StoreRow, record.key) for record in walk(metadata, keys.STORES)]
    return [stored for stored in found if stored]


def _base(row: StoreRow) -> str:
    if row.type == "local_disk":
        return f"{SCHEME}://{row.name}/"
    prefix = str(row.options.get("prefix", "")).strip("/")
    return f"{row.type}://{row.options['bucket']}/" + (f"{prefix}/" if prefix else "")
