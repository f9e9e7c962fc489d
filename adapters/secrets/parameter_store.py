"""Secrets in AWS Systems Manager Parameter Store, encrypted, under one prefix: no charge while nobody works."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from urllib.parse import quote

from adapters.aws.calls import JsonService, credentials_of_environment
from adapters.aws.patience import Refused
from lamplighter.contract.sigv4 import Credentials
from lamplighter.errors import Invalid, NotFound

MAX_VALUE_BYTES = 8 * 1024
"""An advanced parameter holds 8 KB, a standard one 4 KB; Intelligent-Tiering takes the cheapest that will do
(https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html).
"""

MAX_NAME_BYTES = 900
"""Prefix and encoded name together: a parameter's whole ARN may have 1,011 characters."""

CACHED_SECONDS = 60.0
"""So long a change may stay unseen by other processes."""

CACHED_VALUES = 256


class ParameterStoreSecrets:
    """Implements `Secrets` as SecureString parameters `<prefix>/<encoded name>`. Safe with many threads.

    Values that were read are remembered for CACHED_SECONDS; what this object itself changes it sees at once.
    """

    def __init__(
        self,
        prefix: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        credentials: Callable[[], Credentials] = credentials_of_environment,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = "/" + prefix.strip("/")
        self._service = JsonService(
            "ssm",
            target="AmazonSSM",
            version="1.1",
            region=region,
            endpoint_url=endpoint_url,
            credentials=credentials,
        )
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def put(self, name: str, value: str) -> None:
        """As the port says. Raises `Invalid` for an odd name, and for a value that is empty or over 8 KB."""
        parameter = self._parameter(name)
        written = _written(value)
        size = len(written.encode(errors="replace"))
        if not 1 <= size <= MAX_VALUE_BYTES or not _is_text(value):
            raise Invalid(
                {"value": [f"A secret is a text of 1 to {MAX_VALUE_BYTES} bytes (AWS's limit); this one has {size}."]}
            )
        self._forget(parameter)
        # Written twice it is the same value: a lost answer may be asked for again.
        self._service.call(
            "PutParameter",
            {
                "Name": parameter,
                "Value": written,
                "Type": "SecureString",
                "Tier": "Intelligent-Tiering",
                "Overwrite": True,
            },
        )
        self._forget(parameter)

    def get(self, name: str) -> str:
        """As the port says; up to CACHED_SECONDS old."""
        parameter = self._parameter(name)
        now = self._monotonic()
        with self._lock:
            read_at, value = self._known.get(parameter, (-CACHED_SECONDS, ""))
        if now - read_at < CACHED_SECONDS:
            return value
        try:
            answer = self._service.call("GetParameter", {"Name": parameter, "WithDecryption": True})
        except Refused as refused:
            if refused.name != "ParameterNotFound":
                raise
            raise NotFound(f"there is no secret {name}") from None
        value = _read(str(answer["Parameter"]["Value"]))
        self._remember(parameter, now, value)
        return value

    def delete(self, name: str) -> None:
        """As the port says."""
        parameter = self._parameter(name)
        try:
            self._service.call("DeleteParameter", {"Name": parameter})
        except Refused as refused:
            if refused.name != "ParameterNotFound":
                raise
        finally:
            self._forget(parameter)

    def _parameter(self, name: str) -> str:
        """Parameter names take letters, digits, . - _ and /; every other byte is written as _ and two hex digits, as is _."""
        if not name or not _is_text(name):
            raise Invalid({"name": [f"{name[:200]!a} cannot be a secret's name: give it some plain text."]})
        encoded = quote(name, safe="-.").replace("_", "%5F").replace("~", "%7E").replace("%", "_")
        parameter = f"{self._prefix}/{encoded}"
        if len(parameter) > MAX_NAME_BYTES:
            raise Invalid(
                {"name": [f"The name {name[:60]!a}… is too long for a secret: {len(parameter)} bytes encoded."]}
            )
        return parameter

    def _remember(self, parameter: str, read_at: float, value: str) -> None:
        with self._lock:
            if len(self._known) >= CACHED_VALUES:
                self._known.clear()
            self._known[parameter] = (read_at, value)

    def _forget(self, parameter: str) -> None:
        with self._lock:
            self._known.pop(parameter, None)


def _written(value: str) -> str:
    """AWS takes {{...}} for a reference to another parameter and refuses it, so that each brace gets a backslash before it."""
    return value.replace("\\", "\\\\").replace("{", "\\{")


def _read(written: str) -> str:
    return re.sub(r"\\(.)", r"\1", written, flags=re.DOTALL)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
