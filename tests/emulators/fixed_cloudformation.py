"""CloudFormation as AWS documents it, where ministack 1.5.33 overlooks properties of a template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ministack.services import cloudformation, lambda_svc
from ministack.services.cloudformation import provisioners
from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS as RESOURCES

from tests.emulators.replacing import replace

Properties = dict[str, Any]


def install() -> None:
    """Put every fix of this module into ministack."""
    function = RESOURCES["AWS::Lambda::Function"]
    function["create"] = _create_with_concurrency(function["create"])
    function["update"] = _update_with_concurrency(function["update"])
    api = RESOURCES["AWS::ApiGatewayV2::Api"]
    api["create"] = _create_with_cors(api["create"])
    api["update"] = _update_with_cors(api["update"])
    replace(provisioners, "_update_resource", _with_attributes)
    replace(provisioners, "_provision_resource", _with_a_name_of_its_own)


def _create_with_concurrency(original: Callable[..., Any]) -> Callable[..., Any]:
    """AWS: ReservedConcurrentExecutions limits the function. ministack: not looked at."""

    def create(logical_id: str, properties: Properties, *more: Any) -> Any:
        made = original(logical_id, properties, *more)
        lambda_svc._functions[made[0]]["concurrency"] = _reserved(properties)
        return made

    return create


def _update_with_concurrency(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a stack that is deployed again."""

    def update(physical_id: str, old: Properties, new: Properties, *more: Any, **named: Any) -> Any:
        made = original(physical_id, old, new, *more, **named)
        lambda_svc._functions[made[0]]["concurrency"] = _reserved(new)
        return made

    return update


def _reserved(properties: Properties) -> int | None:
    value = properties.get("ReservedConcurrentExecutions")
    return None if value is None else int(value)


def _create_with_cors(original: Callable[..., Any]) -> Callable[..., Any]:
    """AWS: CorsConfiguration of a template answers preflights. ministack: kept under names that it then does not look for."""

    def create(logical_id: str, properties: Properties, *more: Any) -> Any:
        return original(logical_id, _cors(properties), *more)

    return create


def _update_with_cors(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a stack that is deployed again."""

    def update(physical_id: str, old: Properties, new: Properties, *more: Any, **named: Any) -> Any:
        return original(physical_id, _cors(old), _cors(new), *more, **named)

    return update


def _cors(properties: Properties) -> Properties:
    cors = properties.get("CorsConfiguration")
    if not isinstance(cors, dict):
        return properties
    return {**properties, "CorsConfiguration": {name[:1].lower() + name[1:]: value for name, value in cors.items()}}


def _with_attributes(original: Callable[..., Any]) -> Callable[..., Any]:
    """AWS: Fn::GetAtt of what an update leaves as it is still answers. ministack: not within a nested stack, where it is not told
    the attributes that the resource had.
    """

    def update(
        kind: str,
        physical_id: str,
        old: Properties,
        new: Properties,
        stack: str,
        logical_id: str,
        attributes: Any = None,
    ) -> Any:
        if attributes is None:
            attributes = cloudformation._stacks[stack]["_resources"][logical_id]["Attributes"]
        return original(kind, physical_id, old, new, stack, logical_id, attributes)

    return update


def _with_a_name_of_its_own(original: Callable[..., Any]) -> Callable[..., Any]:
    """AWS: a name that CloudFormation has made stays at an update. ministack: what a nested stack makes after a bucket is named
    with the bucket's random part too, which the update does not know, and so replaces the resource.
    """

    def provision(kind: str, logical_id: str, properties: Properties, stack: str) -> Any:
        found = cloudformation._stacks.get(stack) or {}
        if found.get("ParentId") and logical_id not in found["_resources"]:
            provisioners._NAME_SEED.set("")
        return original(kind, logical_id, properties, stack)

    return provision
