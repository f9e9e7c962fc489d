"""Whether a stack's addresses answer, asked from where the operator is."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from lamplighter.errors import Unavailable

TIMEOUT_SECONDS = 20.0
"""A function that has to start first answers within a few seconds."""


def ask(method: str, url: str) -> None:
    """Ask for this address. Raises `Unavailable` telling what came back, unless that is 200."""
    what = f"{method} {url}"
    body = b"{}" if method == "POST" else None
    try:
        request = urllib.request.Request(  # noqa: S310 - an address of the stack's outputs
            url, body, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            status, text = answer.status, ""
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, _beginning(error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(f"{what} got no answer: {reason}") from error
    if status != 200:
        raise Unavailable(f"{what} answered {status}{text and ': ' + text}")


def _beginning(answer: urllib.error.HTTPError) -> str:
    try:
        text = answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
