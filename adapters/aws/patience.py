"""When a call to an AWS service is tried again, and how long is waited before: one rule for every way of calling."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lamplighter.errors import Throttled, Unavailable
from lamplighter.waiting import jittered

T = TypeVar("T")

TRIES = 5

FIRST_WAIT_SECONDS = 0.1
"""The longest first wait; each further one may be twice as long: at most 1.5 s of waiting in all, half of it on average."""

GIVE_UP_SECONDS = 10.0
"""No try begins later than this after the first one."""

THROTTLES = frozenset(
    {
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TooManyUpdates",
    }
)
"""Names under which AWS asks callers to slow down; nothing was done
(https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html, and each service's "Common errors").
"""


class Refused(Unavailable):
    """The service understood the call and did nothing. `name` is AWS's name of the reason, `body` the whole answer."""

    def __init__(self, attempted: str, name: str, message: str, body: Mapping[str, Any]) -> None:
        self.name = name
        self.body = body
        super().__init__(f"{attempted} was refused ({name}: {message[:500]}); {_ADVICE.get(name, _LOOK)}")


class NotSent(Unavailable):
    """The service was not reached: nothing was done."""


_LOOK = "look at the message, and at this function's settings"
_ADVICE = {
    "AccessDeniedException": "let the role of this function do it",
    "ResourceNotFoundException": "look at the name and the region of what it was asked of",
    "ExpiredTokenException": "renew the credentials",
    "UnrecognizedClientException": "look at the credentials: this account does not know them",
    "InvalidSignatureException": "look at the credentials and at this machine's clock",
}


def persist(
    send: Callable[[], T],
    *,
    repeatable: bool,
    busy: Callable[[Refused], bool] = lambda _refused: False,
    pause: Callable[[float], None] = time.sleep,
) -> T:
    """What `send` answers, tried up to TRIES times with full jitter between. Raises what the last try raised.

    `Throttled`, `NotSent` and a `Refused` that is only `busy` are always worth another try. Any other `Unavailable` leaves open
    whether the call was done: it is sent again only if it is `repeatable`, so that doing it twice does no more than once.
    """
    started = time.monotonic()
    for past in range(TRIES):
        last = past == TRIES - 1 or time.monotonic() - started > GIVE_UP_SECONDS
        try:
            return send()
        except Refused as error:
            if last or not busy(error):
                raise
        except (Throttled, NotSent):
            if last:
                raise
        except Unavailable:
            if last or not repeatable:
                raise
        pause(jittered(FIRST_WAIT_SECONDS * 2**past))
    raise AssertionError("the last try returns or raises")
