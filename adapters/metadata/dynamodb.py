"""Metadata in DynamoDB with PynamoDB: for the command line, and for functions that load the SDK anyway."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
)
from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.connection.base import MetaTable
from pynamodb.exceptions import PynamoDBException, VerboseClientError
from pynamodb.expressions.condition import Condition

from adapters.aws.patience import THROTTLES, NotSent, Refused, persist
from adapters.metadata import dynamodb_items as items
from adapters.metadata import rules
from lamplighter.errors import Throttled, Unavailable
from lamplighter.ports import ABSENT, ANY, Check, Delete, Key, Page, Record, Write

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
CONNECTIONS = 50

_PARTITION = UnicodeAttribute(hash_key=True, attr_name=items.PARTITION)
_SORT = UnicodeAttribute(range_key=True, attr_name=items.SORT)
_VERSION = NumberAttribute(attr_name=items.VERSION)
_VALUE = UnicodeAttribute(attr_name=items.VALUE)

_RANGES: Mapping[str, Callable[..., Condition]] = {
    "prefix": _SORT.startswith,
    "between": _SORT.between,
    "from": _SORT.__ge__,
    "above": _SORT.__gt__,
    "below": _SORT.__lt__,
}
_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, NoCredentialsError)


class DynamoDbMetadata:
    """The `Metadata` port in the table `table`, which must exist. Safe with many threads and processes.

    Every read is strongly consistent. Credentials, and what is not given, are found as in every AWS tool.
    """

    def __init__(
        self,
        table: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._pause = pause
        # Its own repetition of a lost write would report the first one's success as a failed condition.
        self._connection = Connection(
            # botocore itself knows AWS_DEFAULT_REGION and the profile, but not the variable that Lambda sets first.
            region=region or os.environ.get("AWS_REGION"),
            host=endpoint_url,
            connect_timeout_seconds=CONNECT_SECONDS,
            read_timeout_seconds=ANSWER_SECONDS,
            max_pool_connections=CONNECTIONS,
            retry_configuration={"total_max_attempts": 1, "mode": "standard"},
        )
        # Known beforehand, so that PynamoDB does not ask for it.
        self._connection.add_meta_table(_schema(table))

    def get(self, key: Key) -> Record | None:
        rules.check_key(key)
        answer = self._persist(
            "GetItem", lambda: self._connection.get_item(self._table, key.partition, key.sort, consistent_read=True)
        )
        return items.record(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Record]:
        return items.read_all(self._table, keys, self._read_batch, self._pause)

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
        rules.check_query(partition, limit)
        wanted = items.span(prefix, after, before, newest_first, cursor)
        if wanted is None:
            return Page((), None)
        limit = min(limit, items.PAGE_RECORDS)
        shape, bounds = wanted.condition
        answer = self._persist(
            "Query",
            lambda: self._connection.query(
                self._table,
                partition,
                range_key_condition=_RANGES[shape](*bounds) if bounds else None,
                consistent_read=True,
                scan_index_forward=not newest_first,
                # One more than the page: whether anything is left must be known exactly.
                limit=limit + 1 + wanted.refused_at_most,
            ),
        )
        return items.page(wanted, answer["Items"], answer.get("LastEvaluatedKey"), limit)

    def transact(self, writes: Sequence[Write]) -> None:
        pairs = items.effective(writes)
        try:
            if items.is_alone(pairs):
                self._write_alone(*pairs[0])
            elif pairs:
                # PynamoDB sends kind after kind; the reasons of a refusal come in that order.
                pairs.sort(key=lambda pair: _KINDS.index(_kind(pair[0])))
                self._write_together(pairs)
        except Refused as refused:
            items.explain(refused, [write for write, _ in pairs])

    def _write_alone(self, write: Write, text: str) -> None:
        operation = f"{_kind(write)}Item"
        # A lost answer is not asked for again: the second try would take the first one's success for a Conflict.
        self._persist(
            operation, lambda: self._connection.dispatch(operation, self._arguments(write, text)), repeatable=False
        )

    def _write_together(self, pairs: Sequence[tuple[Write, str]]) -> None:
        by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
        for write, text in pairs:
            by_kind[_kind(write)].append(self._arguments(write, text))
        token = uuid.uuid4().hex
        self._persist(
            "TransactWriteItems",
            lambda: self._connection.transact_write_items(
                condition_check_items=by_kind["ConditionCheck"],
                delete_items=by_kind["Delete"],
                put_items=by_kind["Put"],
                update_items=by_kind["Update"],
                client_request_token=token,
            ),
        )

    def _arguments(self, write: Write, text: str) -> dict[str, Any]:
        how: dict[str, Any] = {"condition": _condition(write.expects)}
        if write.expects != ANY:
            how["return_values_on_condition_failure"] = "ALL_OLD"
        if _kind(write) == "Put":
            whole = items.item(write.key, write.expects + 1, text)
            how |= {"key": "Item", "attributes": {name: whole[name] for name in (items.VERSION, items.VALUE)}}
        if _kind(write) == "Update":
            # Only DynamoDB knows which version comes next.
            how["actions"] = [_VERSION.set((_VERSION | 0) + 1), _VALUE.set(text)]
        return self._connection.get_operation_kwargs(self._table, write.key.partition, write.key.sort, **how)

    def _read_batch(self, keys: list[items.Item]) -> items.Answer:
        # PynamoDB takes keys of two attributes as mappings, although its signature says texts.
        plain: Any = keys
        return _once("BatchGetItem", lambda: self._connection.batch_get_item(self._table, plain, consistent_read=True))

    def _persist(
        self, operation: str, send: Callable[[], dict[str, Any]], *, repeatable: bool = True
    ) -> dict[str, Any]:
        return persist(
            lambda: _once(f"{operation} of {self._table}", send),
            repeatable=repeatable,
            busy=items.is_passing,
            pause=self._pause,
        )


_KINDS = ("ConditionCheck", "Delete", "Put", "Update")


def _kind(write: Write) -> str:
    """What TransactWriteItems calls it; with "Item" behind it, the call of a write on its own."""
    if isinstance(write, Check):
        return "ConditionCheck"
    if isinstance(write, Delete):
        return "Delete"
    return "Update" if write.expects == ANY else "Put"


def _condition(expects: int) -> Condition | None:
    if expects == ANY:
        return None
    return _PARTITION.does_not_exist() if expects == ABSENT else _VERSION == expects  # noqa: SIM300 - it makes an expression


def _schema(table: str) -> MetaTable:
    keys = ((items.PARTITION, "HASH"), (items.SORT, "RANGE"))
    return MetaTable(
        {
            "TableName": table,
            "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
        }
    )


def _once(attempted: str, send: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """One try, its failure in the words of `patience`."""
    try:
        return send()
    except PynamoDBException as error:
        raise _explained(attempted, error.cause or error) from error
    except (BotoCoreError, ClientError) as error:
        raise _explained(attempted, error) from error


def _explained(attempted: str, error: BaseException) -> Unavailable | Throttled:
    if isinstance(error, _NOT_SENT):
        return NotSent(f"{attempted} was not reached ({error}); look at the network, the address and the credentials")
    # PynamoDB keeps less of the answer than botocore, whose error is behind its own.
    answer = getattr(error.__cause__ if isinstance(error, VerboseClientError) else error, "response", None)
    if not isinstance(answer, Mapping):
        return Unavailable(f"{attempted} got no answer ({error}); it may have been done: try again")
    name, message = answer["Error"].get("Code", ""), answer["Error"].get("Message", "")
    if name in THROTTLES:
        return Throttled(f"{attempted} was slowed down ({name}: {message[:500]}); try again in a while")
    if answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 500:
        return Unavailable(f"{attempted} failed on their side ({name}: {message[:500]}); try again")
    return Refused(attempted, name, message, answer)
