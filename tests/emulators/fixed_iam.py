"""Policies as AWS evaluates them, where ministack 1.5.33 knows less of a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.services import ec2

from tests.emulators.replacing import replace

TAG = "aws:resourcetag/"


def install() -> None:
    """Put every fix of this module into ministack."""
    replace(iam_evaluator, "_resolve_condition_key", _knowing_more)
    replace(iam_actions, "extract_resource_arn", _of_a_fleet)


def _knowing_more(original: Callable[..., Any]) -> Callable[..., Any]:
    """AWS is called over TLS, and knows the tags of the machine that a call is about.

    The emulator is called without TLS: its wire stands for one, so that policies which insist let it pass. Tags of EC2 it
    overlooks.
    """

    def resolve(key: str, context: Any) -> Any:
        if key.lower() == "aws:securetransport":
            return "true"
        if key.lower().startswith(TAG) and context.resource_arn.startswith("arn:aws:ec2:"):
            return _tag(context.resource_arn, key[len(TAG) :])
        return original(key, context)

    return resolve


def _tag(arn: str, name: str) -> str | None:
    tags = ec2._tags.get(arn.rpartition("/")[2]) or []
    return next((str(tag["Value"]) for tag in tags if tag["Key"] == name), None)


def _of_a_fleet(original: Callable[..., str]) -> Callable[..., str]:
    """AWS: CreateFleet is allowed for a fleet, and for what it is made of. ministack: for "*" alone."""

    def extract(
        service: str, method: str, path: str, headers: Any, body: bytes, query: Any, region: str, account: str
    ) -> str:
        found = original(service, method, path, headers, body, query, region, account)
        if service == "ec2" and found == "*" and "CreateFleet" in query.get("Action", ()):
            return f"arn:aws:ec2:{region}:{account}:fleet/*"
        return found

    return extract
