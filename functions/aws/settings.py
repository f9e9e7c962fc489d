"""What the stack tells its functions, and its operator: the names of the resources it has made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lamplighter.errors import Unavailable

PREFIX = "LAMPLIGHTER_"
REGION = "AWS_REGION"


@dataclass(frozen=True, slots=True)
class Settings:
    """One stack. A function is given only what it needs; what is not given is empty.

    `url` is where clients reach the API, `worker_url` where agents do if that is elsewhere. `launch_templates` gives the
    id of each by its name. The region is the one in which all of it lives.
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
    return Settings(**values)


def _templates(text: str) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise Unavailable(f"{PREFIX}LAUNCH_TEMPLATES is not JSON ({error}): deploy the stack anew.") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Unavailable(f"{PREFIX}LAUNCH_TEMPLATES is no object of names and ids: deploy the stack anew.")
    return found
