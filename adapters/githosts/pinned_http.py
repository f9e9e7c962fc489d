"""HTTP to one checked address only: no redirects, no proxies, no other host, and never more than so many bytes or seconds."""

from __future__ import annotations

import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import urllib3

from adapters.githosts.addresses import Address, refused
from lamplighter.errors import Forbidden, NotFound, Throttled, Unavailable


class PinnedPool:
    """Stands in for the pool manager that the git library expects; raises our own errors for the host's answers."""

    def __init__(self, address: Address, *, max_bytes: int, seconds: float) -> None:
        self.headers: dict[str, str] = {}
        self._address = address
        self._budget = _Budget(max_bytes, time.monotonic() + seconds)
        timeout = urllib3.Timeout(connect=5, read=min(60, seconds))
        if address.scheme == "https":
            self._pool: urllib3.HTTPConnectionPool = urllib3.HTTPSConnectionPool(
                address.ip,
                address.port,
                timeout=timeout,
                retries=False,
                ssl_context=ssl.create_default_context(),
                server_hostname=address.host,
                assert_hostname=address.host,
            )
        else:
            self._pool = urllib3.HTTPConnectionPool(address.ip, address.port, timeout=timeout, retries=False)

    def request(self, method: str, url: str, **options: Any) -> _Response:
        """One request within the repository. Raises `Invalid` for a redirect, `Forbidden`, `NotFound`, `Throttled`,
        `Unavailable` for the host's refusals.
        """
        if not url.startswith(self._address.url + "/"):
            raise Unavailable(f"The host {self._address.host} sent us to another place, which is not followed.")
        parts = urlsplit(url)
        options["headers"] = {**options.get("headers", {}), "Host": self._address.host_header}
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        answer = self._pool.urlopen(method, target, redirect=False, retries=False, assert_same_host=False, **options)
        try:
            self._judge(answer)
        except BaseException:
            answer.close()
            raise
        return _Response(answer, url, self._budget)

    def close(self) -> None:
        self._pool.close()

    def _judge(self, answer: Any) -> None:
        where = f"{self._address.url} answered with HTTP {answer.status}"
        if answer.status in (401, 403):
            raise Forbidden(f"{where}: check the repository's credentials, and that they may read it.")
        if answer.status in (404, 410):
            raise NotFound(f"{where}: check the repository's URL, and its credentials if it is private.")
        if 300 <= answer.status < 400:
            raise refused(f"{where}: redirects are not followed; use the URL that the host shows for cloning.")
        if answer.status == 429:
            raise Throttled(f"{where}: the host asks us to slow down; try again later.")
        if answer.status != 200:
            raise Unavailable(f"{where}; try again later.")
        if not str(answer.headers.get("Content-Type", "")).startswith("application/x-git-"):
            raise refused(f"{self._address.url} is no git repository over smart HTTP; check the URL.")


class _Budget:
    def __init__(self, max_bytes: int, deadline: float) -> None:
        self._left = max_bytes
        self._deadline = deadline

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise refused(
                "The repository is too large to be fetched; make it smaller, or send the code as an ad-hoc archive."
            )
        if time.monotonic() > self._deadline:
            raise Unavailable("The git host answers too slowly; try again later.")


class _Response:
    """What the git library reads of a response, counted. It sets the two attributes that begin as None."""

    def __init__(self, answer: Any, url: str, budget: _Budget) -> None:
        self.status: int = answer.status
        self.headers = answer.headers
        self.content_type: str | None = None
        self.redirect_location: str | None = None
        self._answer = answer
        self._url = url
        self._budget = budget
        self._reads = 0

    def geturl(self) -> str:
        return self._url

    def read(self, size: int = 65536) -> bytes:
        data: bytes = self._answer.read(size)
        self._budget.spend(len(data))
        self._reads += 1
        # The first packet is read as its length, then its content; the library takes an error there for a hang-up.
        if self._reads == 2 and data.startswith(b"ERR "):
            raise _told(data[4:204].decode("utf-8", "replace").strip())
        return data

    def close(self) -> None:
        self._answer.close()


def _told(text: str) -> NotFound | Unavailable:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    if "not our ref" in text or "unadvertised object" in text:
        return NotFound(f"The git host does not have the commit ({shown}); check the ref, or push it again.")
    return Unavailable(f"The git host refused the fetch ({shown}); try again later.")
