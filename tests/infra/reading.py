"""The stack with all that can be asked for, and how tests read it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.infra.stack import Resource, Stack, deployed

STACK = deployed(
    AlarmLevel="all", AlarmEmail="ops@example.org", DomainName="ml.example.org", CertificateArn="arn:aws:acm:x"
)


def of(kind: str, stack: Stack = STACK) -> dict[str, Resource]:
    return {r.name: r for r in stack.resources if r.type == f"AWS::{kind}"}


def user_data(stack: Stack, template: str) -> dict[str, Any]:
    text = of("EC2::LaunchTemplate", stack)[template].properties["LaunchTemplateData"]["UserData"]
    assert text.startswith("#cloud-config\n")
    (file,) = yaml.safe_load(text)["write_files"]
    assert (file["path"], file["permissions"]) == ("/etc/lamplighter/worker.json", "0600")
    content: dict[str, Any] = json.loads(file["content"])
    return content
