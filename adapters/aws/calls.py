"""Calls to the AWS services that speak JSON (DynamoDB, Parameter Store, ...) with the standard library alone.

For functions that must start quickly: an SDK costs them more than everything else they load together.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from adapters.aws.patience import THROTTLES, NotSent, Refused, persist
from lamplighter.contract.sigv4 import Credentials, signed_headers
from lamplighter.errors import Throttled, Unavailable

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0

IDLE_SECONDS = 15.0
"""A kept connection that rested longer is not used again: a frozen function cannot know that the other side has closed it."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Twice what BatchGetItem, the largest of them, may give."""


def credentials_of_environment() -> Credentials:
    """Those that Lambda, and every AWS tool, puts into the environment. Raises `Unavailable` when there are none."""
    key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        raise NotSent("there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return Credentials(key_id, secret, os.environ.get("AWS_SESSION_TOKEN", ""))


def region_of_environment() -> str:
    """AWS_REGION or AWS_DEFAULT_REGION. Raises `Unavailable` when neither is set."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise NotSent("no AWS region is known: set AWS_REGION")
    return region


def endpoint_of(service: str, region: str) -> str:
    """Where `service` is called: AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL, or its public address in `region`."""
    override = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return override or f"https://{service}.{region}.{suffix}"


class JsonService:
    """One AWS service in one region. Safe with many threads: each keeps a connection of its own.

    `target` is the prefix of X-Amz-Target and `version` that of the JSON protocol, as in the service's API reference.
    `credentials` is asked before every call, so that renewed keys are used at once.
    """

    def __init__(
        self,
        service: str,
        *,
        target: str,
        version: str,
        region: str | None = None,
        endpoint_url: str | None = None,
        credentials: Callable[[], Credentials] = credentials_of_environment,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = service
        self._target = target
        self._content_type = f"application/x-amz-json-{version}"
        self._region = region or region_of_environment()
        self._url = (endpoint_url or endpoint_of(service, self._region)).rstrip("/") + "/"
        self._credentials = credentials
        self._pause = pause
        self._kept = threading.local()
        self._tls: ssl.SSLContext | None = None

    def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        repeatable: bool = True,
        busy: Callable[[Refused], bool] = lambda _refused: False,
    ) -> dict[str, Any]:
        """The service's answer. Tried again as `patience.persist` says of `repeatable` and `busy`.

        Raises `Refused`, `Throttled`, and `Unavailable` when nothing may be known about the outcome.
        """
        return persist(lambda: self.send(operation, request), repeatable=repeatable, busy=busy, pause=self._pause)

    def send(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """One try of `call`."""
        body = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        attempted = f"{operation} at {self._url}"
        headers = signed_headers(
            "POST",
            self._url,
            service=self._service,
            region=self._region,
            credentials=self._credentials(),
            now=datetime.now(UTC),
            headers={"Content-Type": self._content_type, "X-Amz-Target": f"{self._target}.{operation}"},
            body=body,
        )
        connection = self._connection(attempted)
        try:
            connection.request("POST", urlsplit(self._url).path, body, headers)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            raise Unavailable(
                f"{attempted} got no answer ({_said(error)}); it may have been done: try again"
            ) from error
        except BaseException:
            self._drop(connection)
            raise
        if response.will_close or len(answer) > MAX_ANSWER_BYTES:
            self._drop(connection)
        else:
            self._kept.since = time.time()
        return _understood(attempted, response.status, answer)

    def _connection(self, attempted: str) -> http.client.HTTPConnection:
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is not None:
            if self._is_usable(kept):
                return kept
            self._drop(kept)
        connection = self._new_connection()
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_SECONDS)
        except OSError as error:
            connection.close()
            raise NotSent(
                f"{attempted} was not reached ({_said(error)}); look at the network and the address"
            ) from error
        self._kept.connection = connection
        return connection

    def _is_usable(self, connection: http.client.HTTPConnection) -> bool:
        """Not if it rested long, nor if there is something to read on it: that is the other side's good-bye."""
        if connection.sock is None or not 0 <= time.time() - self._kept.since < IDLE_SECONDS:
            return False
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        return not poll.poll(0)

    def _new_connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=CONNECT_SECONDS)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return http.client.HTTPSConnection(host, parts.port, timeout=CONNECT_SECONDS, context=self._tls)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        self._kept.connection = None
        connection.close()


def _understood(attempted: str, status: int, answer: bytes) -> dict[str, Any]:
    try:
        body = json.loads(answer) if answer else {}
    except ValueError:
        body = None
    if status == 200 and isinstance(body, dict):
        return body
    said = body if isinstance(body, dict) else {}
    name = str(said.get("__type", f"HTTP {status}")).rpartition("#")[2]
    message = str(said.get("message") or said.get("Message") or answer[:200].decode(errors="replace"))
    if name in THROTTLES or status == 429:
        raise Throttled(f"{attempted} was slowed down ({name}: {message[:500]}); try again in a while")
    if status == 200 or status >= 500:
        raise Unavailable(f"{attempted} failed on their side (HTTP {status}, {name}: {message[:500]}); try again")
    raise Refused(attempted, name, message, said)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
