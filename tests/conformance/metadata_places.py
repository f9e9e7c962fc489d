"""The Metadata adapters under test, those of DynamoDB each on a table of its own on a server that somebody else wrote."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from adapters.metadata.dynamodb import DynamoDbMetadata
from adapters.metadata.dynamodb_http import DynamoDbHttpMetadata
from lamplighter.ports import ANY, Key, Metadata, Put
from tests.e2e.ports import free_port

REGION = "eu-west-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_REGION": REGION}

ADAPTERS: dict[str, Any] = {"PynamoDB": DynamoDbMetadata, "signed calls": DynamoDbHttpMetadata}

IN_PROCESS = ["memory", "memory behind a fault plan", "sqlite"]
ON_SERVERS = [f"{adapter} on {server}" for adapter in ADAPTERS for server in ("DynamoDB Local", "moto")]

WITH_ISOLATION = [name for name in (*IN_PROCESS, *ON_SERVERS) if not name.endswith("on moto")]
"""Where moto differs from DynamoDB (2026-11-23, moto 5.2): it lets the transactions of several threads run through one another,
so that increments get lost. What is promised to many at once is asked of DynamoDB Local.
"""


@contextmanager
def moto_server(log: Path) -> Iterator[str]:
    """moto as a process; gives its address. Raises `RuntimeError` when it does not start."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"moto does not start: see {log}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


class Table:
    """A table of one server, made as template.yaml makes it, and an adapter on it."""

    def __init__(self, adapter: str, endpoint_url: str) -> None:
        self.name = f"records-{uuid.uuid4().hex[:12]}"
        self.url = endpoint_url
        self._client: Any = boto3.session.Session().client(
            "dynamodb",
            endpoint_url=endpoint_url,
            region_name=REGION,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        self._client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
        self._adapter = adapter
        self.metadata = self.open()

    def open(self) -> Metadata:
        """A fresh adapter on this table, as in a process that has just started."""
        made: Metadata = ADAPTERS[self._adapter](self.name, region=REGION, endpoint_url=self.url)
        return made

    def empty(self) -> None:
        """Remove every record: making a table and a client for each test takes longer than all tests."""
        keys = {"ProjectionExpression": "pk, sk", "ConsistentRead": True}
        while rows := self._client.scan(TableName=self.name, Limit=25, **keys)["Items"]:
            self._client.batch_write_item(RequestItems={self.name: [{"DeleteRequest": {"Key": row}} for row in rows]})


def put(metadata: Metadata, sort: str, value: dict[str, Any] | None = None, partition: str = "p") -> None:
    metadata.transact([Put(Key(partition, sort), value or {}, ANY)])


def sorts(metadata: Metadata, partition: str = "p", **how: Any) -> list[str]:
    """The sort keys of a whole query, following its cursors."""
    found: list[str] = []
    cursor = None
    while True:
        page = metadata.query(partition, cursor=cursor, **how)
        found.extend(record.key.sort for record in page.records)
        cursor = page.cursor
        if cursor is None:
            return found


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
