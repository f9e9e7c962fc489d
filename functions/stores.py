"""The stores of this installation: its own disk, and those that an administrator has added."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from adapters.catalogue import adapter
from lamplighter import keys
from lamplighter.errors import Invalid, NotFound
from lamplighter.ports import Metadata, Secrets, Store
from lamplighter.records import Stored, find, new, walk

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


class ConfiguredStores:
    """The `Stores` port over the rows in the metadata; a row that another process adds is seen at once."""

    def __init__(self, metadata: Metadata, secrets: Secrets, local: Store) -> None:
        self._metadata = metadata
        self._secrets = secrets
        self._local = local
        self._made: dict[tuple[str, int], Store] = {}
        self._making = threading.Lock()

    @property
    def default(self) -> str:
        return next((row.name for row in self.rows() if row.default), LOCAL)

    def named(self, name: str) -> Store:
        if name == LOCAL:
            return self._local
        stored = find(self._metadata, StoreRow, keys.store(name)) if _NAME.fullmatch(name) else None
        if not stored:
            there = ", ".join([LOCAL, *(row.name for row in self.rows())])
            raise NotFound(f'there is no store "{name[:100]}"; there are: {there}')
        with self._making:
            known = (name, stored.version)
            if known not in self._made:
                self._made[known] = make_store(stored.value, self._secrets)
            return self._made[known]

    def uri(self, name: str, key: str) -> str:
        return _base(self._row(name)) + key

    def locate(self, uri: str) -> tuple[str, str] | None:
        bases = [(f"{SCHEME}://{LOCAL}/", LOCAL), *((_base(row), row.name) for row in self.rows())]
        matching = [(base, name) for base, name in bases if uri.startswith(base) and len(uri) > len(base)]
        if not matching:
            return None
        base, name = max(matching, key=lambda found: len(found[0]))
        return name, uri[len(base) :]

    def rows(self) -> list[StoreRow]:
        """The stores that were added, by name."""
        return [row.value for row in _rows(self._metadata)]

    def _row(self, name: str) -> StoreRow:
        if name == LOCAL:
            return StoreRow(LOCAL, "local_disk")
        self.named(name)
        return next(row for row in self.rows() if row.name == name)


def make_store(row: StoreRow, secrets: Secrets) -> Store:
    """The adapter that the row describes. Raises `Invalid` for options it does not take, `NotFound` for an unknown type."""
    credentials = json.loads(secrets.get(row.secret_name)) if row.secret_name else {}
    unknown = set(row.options) - set(_OPTIONS)
    if unknown or not row.options.get("bucket"):
        raise Invalid({"options": [f"A store needs a bucket and takes {', '.join(_OPTIONS)}; not {sorted(unknown)}."]})
    return cast(Store, adapter("stores", row.type)(**row.options, **credentials))


def add_store(metadata: Metadata, secrets: Secrets, row: StoreRow, credentials: Mapping[str, str]) -> StoreRow:
    """Record a store; with `default` it takes over from the one before. Raises `Invalid` for a name that is odd or taken."""
    if not _NAME.fullmatch(row.name) or row.name == LOCAL:
        raise Invalid({"name": ['1 to 63 lower-case letters, digits and - are accepted, and "local" is taken.']})
    others = _rows(metadata)
    if any(other.value.name == row.name for other in others):
        raise Invalid({"name": ["A store with this name exists already."]})
    named = StoreRow(row.name, row.type, row.options, f"stores/{row.name}" if credentials else "", row.default)
    if credentials:
        secrets.put(named.secret_name, json.dumps(dict(credentials)))
    make_store(named, secrets)
    demoted = [
        o.becomes(StoreRow(o.value.name, o.value.type, o.value.options, o.value.secret_name))
        for o in others
        if row.default and o.value.default
    ]
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
