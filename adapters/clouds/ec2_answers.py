"""What EC2's refusals mean for the scheduler.

| EC2 says | we say | what follows |
|---|---|---|
| InsufficientInstanceCapacity, InsufficientHostCapacity, InsufficientCapacity, UnfulfillableCapacity, InsufficientFreeAddressesInSubnet, SpotMaxPriceTooLow, ReservationCapacityExceeded | `NoCapacity` | the next purchase option, then a pause that grows |
| MaxSpotInstanceCountExceeded, VcpuLimitExceeded, InstanceLimitExceeded, VolumeLimitExceeded, MaxFleetCountExceeded | `QuotaReached` | the next purchase option, then a longer pause; the text names the quota to raise |
| RequestLimitExceeded, Throttling, ThrottlingException, RequestThrottled | `Throttled` | the same request again, soon |
| InternalError, InternalFailure, ServiceUnavailable, Unavailable, ExpiredToken, RequestExpired, any status of 500 and above, no answer | `Unavailable` | the same request again, soon |
| everything else: Unsupported, Invalid…, Missing…, UnauthorizedOperation, IdempotentParameterMismatch, OptInRequired | `LaunchRefused` | the environment pauses until it is corrected |

Names: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. CreateFleet answers 200 and lists such errors per
launch specification. Its token is spent by that answer, which a repeated request may get again for a day; so a throttle or a fault
in that list is no reason to repeat it, and counts as `NoCapacity`.
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lamplighter.errors import LamplighterError, LaunchRefused, NoCapacity, QuotaReached, Throttled, Unavailable

CAPACITY = {
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientCapacity",
    "UnfulfillableCapacity",
    "InsufficientFreeAddressesInSubnet",
    "SpotMaxPriceTooLow",
    "ReservationCapacityExceeded",
}
QUOTA = {
    "MaxSpotInstanceCountExceeded",
    "VcpuLimitExceeded",
    "InstanceLimitExceeded",
    "VolumeLimitExceeded",
    "MaxFleetCountExceeded",
}
BUSY = {"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled"}
FAULTY = {
    "InternalError",
    "InternalFailure",
    "ServiceUnavailable",
    "Unavailable",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
}
_ORDER = (NoCapacity, QuotaReached, LaunchRefused)
"""Of several reasons the first of these decides: what may pass soonest is tried again soonest."""


def meaning(code: str, status: int = 400) -> type[LamplighterError]:
    """The error of ours that EC2's `code` stands for, for a launch."""
    if code in BUSY:
        return Throttled
    if code in FAULTY or status >= 500:
        return Unavailable
    if code in CAPACITY:
        return NoCapacity
    return QuotaReached if code in QUOTA else LaunchRefused


def fleet_refusal(errors: Sequence[dict[str, Any]], purchase: str) -> LamplighterError:
    """Why CreateFleet gave no instance: `NoCapacity`, `QuotaReached` or `LaunchRefused`, each final for the request's token.

    Each kind of error is told once, with the first offer that it was about.
    """
    if not errors:
        return NoCapacity(f"EC2 gave no {purchase} instance and no reason")
    kinds = {_final(meaning(e.get("ErrorCode", ""))) for e in errors}
    decides = next(kind for kind in _ORDER if kind in kinds)
    told = {e.get("ErrorCode", "no code"): e for e in reversed(errors)}
    reasons = [_told(code, error) for code, error in list(told.items())[::-1][:4]]
    advice = f". Raise the quota {_quota(errors, purchase)} in Service Quotas" if decides is QuotaReached else ""
    return decides(f"EC2 gave no {purchase} instance: {'; '.join(reasons)}{advice}")


@contextmanager
def calling(attempt: str, *, launching: bool = False) -> Iterator[None]:
    """Turn what boto3 raises into our errors; those that only make sense for a launch are `Unavailable` for other calls."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        code = said.get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        kind = meaning(code, status)
        if not launching and kind is not Throttled:
            kind = Unavailable
        advice = _ADVICE.get(code, "")
        raise kind(f"{attempt}: EC2 answered {code}: {said.get('Message', '')[:300]}{advice}") from error
    except BotoCoreError as error:
        raise Unavailable(f"{attempt}: EC2 did not answer: {error}"[:400]) from error


_ADVICE = {
    "UnauthorizedOperation": ". Grant the role of this function that action",
    "IdempotentParameterMismatch": ". This launch token was used for another request: a new machine needs a new one",
    "VcpuLimitExceeded": ". Raise the quota of running on-demand instances in Service Quotas",
    "MaxSpotInstanceCountExceeded": ". Raise the quota of spot instance requests in Service Quotas",
    "InstanceLimitExceeded": ". Raise the quota of running on-demand instances in Service Quotas",
}


def _final(kind: type[LamplighterError]) -> type[LamplighterError]:
    return NoCapacity if kind in (Throttled, Unavailable) else kind


def _override(error: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = error.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    return found


def _told(code: str, error: dict[str, Any]) -> str:
    offer = _override(error)
    where = " ".join(str(offer[k]) for k in ("InstanceType", "SubnetId") if offer.get(k))
    return f"{code}{f' ({where})' if where else ''}: {str(error.get('ErrorMessage', ''))[:150]}"


_FAMILIES = (("G and VT", ("g", "vt")), ("P", ("p",)), ("Trn", ("trn",)), ("Inf", ("inf",)), ("DL", ("dl",)))


def _quota(errors: Sequence[dict[str, Any]], purchase: str) -> str:
    """The name that Service Quotas gives to the limit of the first offer that met one."""
    offer = next((_override(e) for e in errors if e.get("ErrorCode") in QUOTA), {})
    letters = "".join(c for c in str(offer.get("InstanceType", "")).partition(".")[0] if not c.isdigit())
    prefix = letters[:1] if letters[:1] in "gp" else letters
    family = next((name for name, heads in _FAMILIES if prefix in heads), "Standard (A, C, D, H, I, M, R, T, Z)")
    spot = purchase == "spot"
    return f'"All {family} Spot Instance Requests"' if spot else f'"Running On-Demand {family} instances"'
