"""What the stack tells its functions, and its operator: the names of the resources it has made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any

from lamplighter.errors import Unavailable

PREFIX = "LAMPLIGHTER_"
REGION = "AWS_REGION"


@dataclass(frozen=True, slots=True)
class Settings:
    """One stack. A function is given only what it needs; what is not given is empty.

    `url` is where clients reach the API, `worker_url` where agents do if that is elsewhere. `launch_templates` gives the
    id of each by its name. `max_machines` (0 is no limit) and `daily_budget_usd` bound the whole installation. The region is
    the one in which all of it lives.
    """

    region: str = ""
    table: str = ""
    installation: str = ""
    url: str = ""
    worker_url: str = ""
    secrets_prefix: str = ""
    data_bucket: str = ""
    code_bucket: str = ""
    logs_bucket: str = ""
    audit_bucket: str = ""
    execution_machine: str = ""
    machine_machine: str = ""
    launch_templates: Mapping[str, str] = field(default_factory=dict)
    subnets: tuple[str, ...] = ()
    worker_role: str = ""
    account: str = ""
    max_machines: int = 0
    daily_budget_usd: Decimal | None = None

    def need(self, name: str) -> Any:
        """The setting. Raises `Unavailable` naming the variable when it was not given."""
        value = getattr(self, name)
        if not value:
            raise Unavailable(
                f"{PREFIX}{name.upper()} is not set: this stack was deployed without it, or with another version. Deploy it anew."
            )
        return value


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from `LAMPLIGHTER_<NAME>` and AWS_REGION. Raises `Unavailable` for a value that cannot be read."""
    values: dict[str, Any] = {
        f.name: environment.get(PREFIX + f.name.upper(), "").strip() for f in fields(Settings) if f.name != "region"
    }
    values["region"] = environment.get(REGION, "")
    values["url"] = values["url"].rstrip("/")
    values["worker_url"] = values["worker_url"].rstrip("/")
    values["subnets"] = tuple(part.strip() for part in values["subnets"].split(",") if part.strip())
    values["launch_templates"] = _templates(values["launch_templates"])
    values["max_machines"] = int(_number(values["max_machines"], "MAX_MACHINES") or 0)
    values["daily_budget_usd"] = _number(values["daily_budget_usd"], "DAILY_BUDGET_USD")
    return Settings(**values)


def settings_of_outputs(outputs: Mapping[str, str], region: str) -> Settings:
    """Settings from a stack's outputs, which are named like the variables in camel case. Raises as `read_settings`."""
    named = {"".join(word.capitalize() for word in f.name.split("_")): f.name for f in fields(Settings)}
    known = {PREFIX + named[key].upper(): value for key, value in outputs.items() if key in named}
    return read_settings({**known, REGION: region})


def _number(text: str, name: str) -> Decimal | None:
    try:
        found = Decimal(text) if text else None
    except InvalidOperation:
        found = Decimal("NaN")
    if found is not None and not (found.is_finite() and found >= 0):
        raise Unavailable(f"{PREFIX}{name} is {text!r} and no number from 0 on: deploy the stack anew.")
    return found


def _templates(text: str) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise Unavailable(f"{PREFIX}LAUNCH_TEMPLATES is not JSON ({error}): deploy the stack anew.") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Unavailable(f"{PREFIX}LAUNCH_TEMPLATES is no object of names and ids: deploy the stack anew.")
    return found
