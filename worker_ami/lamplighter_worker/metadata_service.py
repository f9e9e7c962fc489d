"""What an EC2 machine can read of itself: the instance metadata service, version 2, and nothing else over the same wire.

The protocol is the one of https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html: a PUT gives a
token, which every GET carries.
"""

from __future__ import annotations

import http.client
import os
from urllib.parse import urlsplit

from lamplighter.errors import Invalid, Unavailable
from lamplighter_worker.clock import boottime

ADDRESS = "http://169.254.169.254"
ADDRESS_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""The variable by which AWS's own tools name another address."""

TOKEN_SECONDS = 21600
TIMEOUT = 2.0
"""Seconds without a word: the service lives on the machine's own host."""

MAX_ANSWER = 64 * 1024

_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path


class MetadataService:
    """Asks the metadata service. Follows no redirect, uses no proxy, and gives up once `TIMEOUT` passes without a word.

    May be used from several threads: a token is fetched once more than needed at worst.
    """

    def __init__(self, address: str = ADDRESS) -> None:
        parts = urlsplit(address)
        if parts.scheme != "http" or not parts.hostname:
            raise Invalid.because(f"{address!r} is no address of a metadata service. It looks like {ADDRESS}")
        self._address = address
        self._host, self._port = parts.hostname, parts.port or 80
        self._token = ""
        self._token_until = 0.0

    @classmethod
    def from_environment(cls) -> MetadataService:
        """The one of this machine, or the one that `AWS_EC2_METADATA_SERVICE_ENDPOINT` names."""
        return cls(os.environ.get(ADDRESS_VARIABLE) or ADDRESS)

    def get(self, path: str) -> str | None:
        """What is at `path` ("/latest/meta-data/instance-id"); None where there is nothing. Raises `Unavailable`."""
        status, text = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._fresh_token()})
        if status == 401:
            self._token = ""
            status, text = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._fresh_token()})
        if status == 404:
            return None
        if status != 200:
            raise Unavailable(
                f"The metadata service at {self._address} answered {status} to {path}. Asking again helps."
            )
        return text

    def _fresh_token(self) -> str:
        if not self._token or boottime() >= self._token_until:
            asked_at = boottime()
            wish = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            status, text = self._ask("PUT", _TOKEN_PATH, wish)
            if status != 200 or not text.isascii() or not text.isprintable():
                raise Unavailable(
                    f"The metadata service at {self._address} gave no token (status {status}). It must be switched on,"
                    " with version 2, and this process must be allowed to reach it."
                )
            self._token, self._token_until = text, asked_at + TOKEN_SECONDS * 0.9
        return self._token

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            content = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as e:
            raise Unavailable(f"No answer from the metadata service at {self._address}: {type(e).__name__} {e}") from e
        finally:
            connection.close()
        if len(content) > MAX_ANSWER:
            raise Unavailable(
                f"The metadata service at {self._address} answered {path} with more than {MAX_ANSWER} bytes"
            )
        return response.status, content.decode("utf-8", "replace")
