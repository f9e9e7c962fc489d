"""What an environment may ask of EC2, checked before anything is launched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from lamplighter.errors import LaunchRefused
from lamplighter.ports import Json

Purchase = Literal["spot", "on-demand"]

PURCHASES: Mapping[str, tuple[Purchase, ...]] = {
    "spot": ("spot",),
    "on_demand": ("on-demand",),
    "spot_then_on_demand": ("spot", "on-demand"),
}
KNOWN = (
    "instance_types",
    "launch_template",
    "purchase",
    "subnets",
    "image_id",
    "max_price_usd_per_hour",
    "max_life_hours",
)
MAX_TYPES = 20
MAX_OVERRIDES = 300
"""CreateFleet's limit of launch specifications in one request."""

_TYPE = re.compile(r"[a-z][a-z0-9-]{0,30}\.[a-z0-9-]{1,30}")
_IMAGE = re.compile(r"ami-[0-9a-f]{8,17}")
_LONGEST_LIFE_HOURS = 24 * 60


@dataclass(frozen=True, slots=True)
class Ec2Options:
    """The options of an environment on EC2.

    `instance_types`: acceptable types, 1 to 20. `launch_template`: a name of the installation's templates; without one "gpu" for
    an environment with a GPU and "cpu" otherwise. `purchase`: spot (the default), on_demand, or spot_then_on_demand.
    `subnets`: some of the installation's; all by default. `image_id`: another image than the template's.
    `max_price_usd_per_hour`: more is not paid. `max_life_hours`: what the machine's tag says of its end, 168 unless told
    otherwise; the stack's `MaxMachineHours` is what ends it.
    """

    instance_types: tuple[str, ...]
    launch_template: str
    purchases: tuple[Purchase, ...]
    subnets: tuple[str, ...]
    image_id: str
    max_price: str
    max_life_hours: int


def read_options(
    options: Json, *, templates: Mapping[str, str], subnets: Sequence[str], gpu: bool = False
) -> Ec2Options:
    """The checked options; `launch_template` becomes the template's id. Raises `LaunchRefused` naming the faulty option."""
    if not templates:
        raise LaunchRefused("there is no launch template yet: update the stack with WorkerImageId, or GpuWorkerImageId")
    unknown = sorted(set(options) - set(KNOWN))
    if unknown:
        raise _refused(unknown[0], options[unknown[0]], f"one of {', '.join(KNOWN)}", "there is no such option")
    types = _names(options, "instance_types", None, _TYPE, "instance types such as c7g.xlarge", MAX_TYPES)
    chosen = _names(options, "subnets", tuple(subnets), None, f"some of {', '.join(subnets)}", len(subnets))
    strangers = [s for s in chosen if s not in subnets]
    if strangers:
        raise _refused(
            "subnets", strangers[0], f"one of {', '.join(subnets)}", "it is not a subnet of this installation"
        )
    if len(types) * len(chosen) > MAX_OVERRIDES:
        raise _refused("instance_types", list(types), f"at most {MAX_OVERRIDES // len(chosen)} types for these subnets")
    purchase = _choice(options, "purchase", "spot", PURCHASES)
    image_id = options.get("image_id", "")
    if image_id and not (isinstance(image_id, str) and _IMAGE.fullmatch(image_id)):
        raise _refused("image_id", image_id, "an image id such as ami-0123456789abcdef0")
    return Ec2Options(
        instance_types=types,
        launch_template=templates[_template(options, templates, gpu)],
        purchases=PURCHASES[purchase],
        subnets=chosen,
        image_id=str(image_id),
        max_price=_price(options),
        max_life_hours=_hours(options),
    )


def _names(
    options: Json, name: str, default: tuple[str, ...] | None, pattern: re.Pattern[str] | None, wanted: str, most: int
) -> tuple[str, ...]:
    value = options.get(name, default)
    fits = isinstance(value, list | tuple) and 1 <= len(value) <= most
    if not fits or not all(isinstance(v, str) and (not pattern or pattern.fullmatch(v)) for v in value):
        raise _refused(name, value, f"a list of 1 to {most} {wanted}")
    return tuple(dict.fromkeys(value))


def _choice(options: Json, name: str, default: str, choices: Mapping[str, Any]) -> str:
    value = options.get(name, default)
    if not isinstance(value, str) or value not in choices:
        raise _refused(name, value, f"one of {', '.join(sorted(choices))}")
    return value


def _template(options: Json, templates: Mapping[str, str], gpu: bool) -> str:
    own = "gpu" if gpu else "cpu"
    if "launch_template" not in options and own not in templates:
        image = "GpuWorkerImageId" if gpu else "WorkerImageId"
        raise LaunchRefused(
            f"the environment has {'a' if gpu else 'no'} gpu_spec and so needs the launch template {own}, which this stack lacks: "
            f"update the stack with {image}, or give the option launch_template, one of {', '.join(sorted(templates))}"
        )
    return _choice(options, "launch_template", own, templates)


def _price(options: Json) -> str:
    """As text without an exponent, for EC2; empty without a limit."""
    value = options.get("max_price_usd_per_hour")
    if value is None:
        return ""
    try:
        price = Decimal(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except InvalidOperation:
        price = None
    if price is None or not price.is_finite() or not 0 < price < 10_000:
        raise _refused("max_price_usd_per_hour", value, "a positive number below 10000")
    return f"{price:f}"


def _hours(options: Json) -> int:
    value = options.get("max_life_hours", 168)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LONGEST_LIFE_HOURS:
        raise _refused("max_life_hours", value, f"a whole number from 1 to {_LONGEST_LIFE_HOURS}")
    return value


def _refused(name: str, value: Any, wanted: str, because: str = "it is not usable") -> LaunchRefused:
    given = "not given" if value is None else f"{value!r:.100}"
    return LaunchRefused(f"option {name} of the environment is {given}: {because}. Give {wanted:.300}.")
