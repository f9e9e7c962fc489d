"""What a record looks like in DynamoDB, what a query asks for, and what a cancelled transaction means.

One table: `pk` and `sk` (S) are the record's key, `version` (N), `value` (S) is compact JSON. No index and no scan: rows that
find others are records of our own. Both adapters, the one with PynamoDB and the one without any SDK, work by these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NoReturn

from adapters.aws.patience import Refused, persist
from adapters.metadata import rules
from lamplighter.errors import Conflict, Throttled
from lamplighter.ports import ABSENT, ANY, Check, Delete, Key, Page, Put, Record, Write

PARTITION = "pk"
SORT = "sk"
VERSION = "version"
VALUE = "value"

Item = Mapping[str, Mapping[str, Any]]
"""DynamoDB's JSON of an item: attribute name to {type: value}."""

Answer = Mapping[str, Any]
"""DynamoDB's JSON of a whole answer."""

BATCH_KEYS = 100
"""BatchGetItem takes no more (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html)."""

PAGE_RECORDS = 1000
"""One query asks for no more, however large the caller's limit."""

CONDITION_FAILED = "ConditionalCheckFailedException"
CANCELLED = "TransactionCanceledException"

# The names in a transaction's reasons differ from those of a single call.
_REASON_CONDITION_FAILED = "ConditionalCheckFailed"
_PASSING_REASONS = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
_PASSING = frozenset({"TransactionConflictException", "TransactionInProgressException"})


# --- Records --------------------------------------------------------------------------------------------------------


def key_item(key: Key) -> dict[str, dict[str, str]]:
    """The key attributes."""
    return {PARTITION: {"S": key.partition}, SORT: {"S": key.sort}}


def item(key: Key, version: int, text: str) -> dict[str, dict[str, str]]:
    """The whole item of a record whose stored value is `text`."""
    return {**key_item(key), VERSION: {"N": str(version)}, VALUE: {"S": text}}


def record(found: Item) -> Record:
    """The record in an item."""
    key = Key(found[PARTITION]["S"], found[SORT]["S"])
    return Record(key, int(found[VERSION]["N"]), rules.decode(found[VALUE]["S"]))


def read_all(
    table: str, keys: Sequence[Key], send: Callable[[list[Item]], Answer], pause: Callable[[float], None]
) -> dict[Key, Record]:
    """Those of `keys` that exist. `send` makes one try of BatchGetItem for up to BATCH_KEYS keys.

    What an answer leaves out (it ends at 16 MB, or is slowed down) is asked for again; an answer with nothing is `Throttled`.
    """
    for key in keys:
        rules.check_key(key)
    distinct = [key_item(key) for key in dict.fromkeys(keys)]
    found: dict[Key, Record] = {}
    for start in range(0, len(distinct), BATCH_KEYS):
        wanted: list[Item] = [*distinct[start : start + BATCH_KEYS]]
        while wanted:
            records, wanted = persist(partial(_read_some, table, wanted, send), repeatable=True, pause=pause)
            found.update(records)
    return found


def _read_some(
    table: str, wanted: list[Item], send: Callable[[list[Item]], Answer]
) -> tuple[dict[Key, Record], list[Item]]:
    answer = send(wanted)
    left = answer["UnprocessedKeys"].get(table, {}).get("Keys", [])
    if len(left) == len(wanted):
        raise Throttled(f"none of {len(left)} records of {table} could be read: try again in a while")
    records = (record(found) for found in answer["Responses"].get(table, ()))
    return {found.key: found for found in records}, left


# --- Queries --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """The sort keys a query wants: above `floor` (from it, if `from_floor`) and below `roof`. None is no bound.

    DynamoDB takes one condition on the sort key and knows no open interval, so `condition` may let in what `admits` refuses:
    the two ends, and for a bound that is longer than any key the few that begin like it.
    """

    floor: str | None
    from_floor: bool
    roof: str | None
    prefix: str = ""

    @property
    def condition(self) -> tuple[Literal["all", "prefix", "between", "from", "above", "below"], tuple[str, ...]]:
        """The tightest single condition on the sort key that lets in everything wanted, and its values."""
        if self.prefix:
            return "prefix", (self.prefix,)
        if self.floor is not None and self.roof is not None:
            return "between", (_cut(self.floor), _cut(self.roof))
        if self.floor is not None:
            cut = _cut(self.floor)
            return ("from" if self.from_floor or cut != self.floor else "above"), (cut,)
        if self.roof is not None and _cut(self.roof) == self.roof:
            return "below", (self.roof,)
        return "all", ()

    @property
    def refused_at_most(self) -> int:
        """How many rows of the condition `admits` usually refuses: asked for in addition."""
        return 2 if self.condition[0] == "between" else 0

    def admits(self, sort: str) -> bool:
        """Python compares texts by code point, which is DynamoDB's order of their UTF-8 bytes."""
        if self.floor is not None and (sort < self.floor or (sort == self.floor and not self.from_floor)):
            return False
        return self.roof is None or sort < self.roof


def span(prefix: str, after: str | None, before: str | None, newest_first: bool, cursor: str | None) -> Span | None:
    """What a query with these bounds wants, or None when no sort key can lie between them.

    Raises `Invalid` for a cursor that is not ours.
    """
    resume = None if cursor is None else rules.sort_of(cursor)
    floors = [bound for bound in (after, None if newest_first else resume) if bound]
    roofs = [bound for bound in (before, resume if newest_first else None) if bound is not None]
    if not floors and not roofs and 0 < len(prefix.encode()) <= rules.MAX_SORT_BYTES:
        return Span(prefix, True, rules.first_beyond(prefix), prefix)
    above = max(floors, default="")
    from_prefix = above < prefix
    floor = prefix if from_prefix else above
    beyond = rules.first_beyond(prefix)
    roof = min(roofs if beyond is None else [*roofs, beyond], default=None)
    if roof is not None and roof <= floor:
        return None
    return Span(floor or None, from_prefix, roof)


def page(wanted: Span, found: Sequence[Item], last: Item | None, limit: int) -> Page:
    """The page in one answer of Query: `found` in the order asked for, `last` where DynamoDB stopped at 1 MB or at our limit."""
    rows = [row for row in found if wanted.admits(row[SORT]["S"])]
    records = tuple(record(row) for row in rows[:limit])
    if len(rows) > limit:
        return Page(records, rules.cursor_after(records[-1].key.sort))
    return Page(records, None if last is None else rules.cursor_after(last[SORT]["S"]))


def _cut(bound: str) -> str:
    """DynamoDB refuses a bound that is longer than a key may be."""
    return bound.encode()[: rules.MAX_SORT_BYTES].decode(errors="ignore")


# --- Transactions ---------------------------------------------------------------------------------------------------


def effective(writes: Sequence[Write]) -> list[tuple[Write, str]]:
    """The writes with their stored texts ("" for all but `Put`), without those that ask for nothing.

    Raises `ValueError` as `Metadata.transact` says.
    """
    texts = rules.encode_transaction(writes)
    pairs = [(write, text or "") for write, text in zip(writes, texts, strict=True)]
    return [(write, text) for write, text in pairs if not (isinstance(write, Check) and write.expects == ANY)]


def is_alone(writes: Sequence[tuple[Write, str]]) -> bool:
    """Whether a plain conditional write does it, at half the price of a transaction. A lone `Check` has no such form."""
    return len(writes) == 1 and isinstance(writes[0][0], Put | Delete)


def is_passing(refused: Refused) -> bool:
    """Whether it was refused for what others were doing at that moment: nothing was done, and the same may be sent again."""
    if refused.name == CANCELLED:
        codes = {str(reason.get("Code")) for reason in refused.body.get("CancellationReasons", ())} - {"None"}
        return bool(codes) and codes <= _PASSING_REASONS
    return refused.name in _PASSING


def explain(refused: Refused, writes: Sequence[Write]) -> NoReturn:
    """Raises what a refused write means to its caller.

    `Conflict` only where an expectation failed. Transactions that merely met on a record have not disproved anything that ours
    relied on: when they meet in every try, that is `Throttled`.
    """
    if refused.name == CONDITION_FAILED:
        raise _conflict(writes[0], refused.body.get("Item")) from refused
    if refused.name == CANCELLED:
        for write, reason in zip(writes, refused.body.get("CancellationReasons", ()), strict=False):
            if reason.get("Code") == _REASON_CONDITION_FAILED:
                raise _conflict(write, reason.get("Item")) from refused
    if is_passing(refused):
        raise Throttled(f"other transactions hold the same records all the time: {refused}") from refused
    raise refused


def _conflict(write: Write, found: Item | None) -> Conflict:
    version = int(found[VERSION]["N"]) if found else ABSENT
    return Conflict(rules.conflict_message(write.key, write.expects, version))
