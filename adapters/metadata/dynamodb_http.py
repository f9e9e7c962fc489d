"""Metadata in DynamoDB by signed calls of the standard library: for functions that must start quickly."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.aws.calls import JsonService, credentials_of_environment
from adapters.aws.patience import Refused
from adapters.metadata import dynamodb_items as items
from adapters.metadata import rules
from lamplighter.contract.sigv4 import Credentials
from lamplighter.ports import ABSENT, ANY, Check, Delete, Key, Page, Record, Write

Consumed = Callable[[str, float, float], None]
"""Is told the operation, and how many read units and write units it took."""

_KEY_NAMES = {"#pk": items.PARTITION, "#sk": items.SORT}
_RANGES = {
    "all": "#pk = :pk",
    "prefix": "#pk = :pk AND begins_with(#sk, :0)",
    "between": "#pk = :pk AND #sk BETWEEN :0 AND :1",
    "from": "#pk = :pk AND #sk >= :0",
    "above": "#pk = :pk AND #sk > :0",
    "below": "#pk = :pk AND #sk < :0",
}
_ALONE = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}


class DynamoDbHttpMetadata:
    """The `Metadata` port in the table `table`, which must exist. Safe with many threads and processes.

    Every read is strongly consistent. `region` and `endpoint_url` default to the environment's. `consumed` is told of the capacity
    of every answered call; asking for it costs nothing.
    """

    def __init__(
        self,
        table: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        credentials: Callable[[], Credentials] = credentials_of_environment,
        consumed: Consumed | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._consumed = consumed
        self._pause = pause
        self._service = JsonService(
            "dynamodb",
            target="DynamoDB_20120810",
            version="1.0",
            region=region,
            endpoint_url=endpoint_url,
            credentials=credentials,
            pause=pause,
        )

    def get(self, key: Key) -> Record | None:
        rules.check_key(key)
        answer = self._call("GetItem", {"TableName": self._table, "Key": items.key_item(key), "ConsistentRead": True})
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
        answer = self._call(
            "Query",
            {
                "TableName": self._table,
                "KeyConditionExpression": _RANGES[shape],
                "ExpressionAttributeNames": _KEY_NAMES if bounds else {"#pk": items.PARTITION},
                "ExpressionAttributeValues": {
                    ":pk": {"S": partition},
                    **{f":{number}": {"S": bound} for number, bound in enumerate(bounds)},
                },
                "ConsistentRead": True,
                "ScanIndexForward": not newest_first,
                # One more than the page: whether anything is left must be known exactly.
                "Limit": limit + 1 + wanted.refused_at_most,
            },
        )
        return items.page(wanted, answer["Items"], answer.get("LastEvaluatedKey"), limit)

    def transact(self, writes: Sequence[Write]) -> None:
        pairs = items.effective(writes)
        actions = [_action(self._table, write, text) for write, text in pairs]
        try:
            if items.is_alone(pairs):
                ((kind, request),) = actions
                # A lost answer is not asked for again: the second try would take the first one's success for a Conflict.
                self._call(_ALONE[kind], request, repeatable=False)
            elif actions:
                token = os.urandom(16).hex()
                self._call(
                    "TransactWriteItems",
                    {"TransactItems": [{kind: request} for kind, request in actions], "ClientRequestToken": token},
                )
        except Refused as refused:
            items.explain(refused, [write for write, _ in pairs])

    def _read_batch(self, keys: list[items.Item]) -> items.Answer:
        request = {
            "RequestItems": {self._table: {"Keys": keys, "ConsistentRead": True}},
            "ReturnConsumedCapacity": "TOTAL",
        }
        return self._counted("BatchGetItem", self._service.send("BatchGetItem", request))

    def _call(self, operation: str, request: dict[str, Any], *, repeatable: bool = True) -> items.Answer:
        request["ReturnConsumedCapacity"] = "TOTAL"
        answer = self._service.call(operation, request, repeatable=repeatable, busy=items.is_passing)
        return self._counted(operation, answer)

    def _counted(self, operation: str, answer: items.Answer) -> items.Answer:
        if self._consumed:
            for used in _tables(answer.get("ConsumedCapacity", ())):
                units = used.get("CapacityUnits", 0.0)
                reads = operation in ("GetItem", "BatchGetItem", "Query")
                self._consumed(operation, units if reads else 0.0, 0.0 if reads else units)
        return answer


def _tables(consumed: Any) -> Sequence[Mapping[str, float]]:
    """The capacity that a call took: one table's for calls on one item, a list otherwise."""
    return [consumed] if isinstance(consumed, Mapping) else consumed


def _action(table: str, write: Write, text: str) -> tuple[str, dict[str, Any]]:
    """What TransactWriteItems calls the write, and its request, which a call on its own takes as well."""
    request: dict[str, Any] = {"TableName": table}
    if write.expects != ANY:
        request |= _condition(write.expects)
    if isinstance(write, Check):
        return "ConditionCheck", request | {"Key": items.key_item(write.key)}
    if isinstance(write, Delete):
        return "Delete", request | {"Key": items.key_item(write.key)}
    if write.expects != ANY:
        return "Put", request | {"Item": items.item(write.key, write.expects + 1, text)}
    # Only DynamoDB knows which version comes next.
    return "Update", request | {
        "Key": items.key_item(write.key),
        "UpdateExpression": "SET #version = if_not_exists(#version, :none) + :one, #value = :value",
        "ExpressionAttributeNames": {"#version": items.VERSION, "#value": items.VALUE},
        "ExpressionAttributeValues": {":none": {"N": "0"}, ":one": {"N": "1"}, ":value": {"S": text}},
    }


def _condition(expects: int) -> dict[str, Any]:
    shared = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if expects == ABSENT:
        return {
            **shared,
            "ConditionExpression": "attribute_not_exists(#pk)",
            "ExpressionAttributeNames": {"#pk": items.PARTITION},
        }
    return {
        **shared,
        "ConditionExpression": "#version = :expected",
        "ExpressionAttributeNames": {"#version": items.VERSION},
        "ExpressionAttributeValues": {":expected": {"N": str(expects)}},
    }
