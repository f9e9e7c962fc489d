"""Every adapter there is, by port and name: one line each, loaded only when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from lamplighter.errors import NotFound

CATALOGUE: Mapping[str, Mapping[str, str]] = {
    "metadata": {
        "dynamodb": "adapters.metadata.dynamodb:DynamoDbMetadata",
        "dynamodb_http": "adapters.metadata.dynamodb_http:DynamoDbHttpMetadata",
        "sqlite": "adapters.metadata.sqlite:SqliteMetadata",
    },
    "stores": {
        "local_disk": "adapters.stores.local_disk:LocalDiskStore",
        "s3": "adapters.stores.s3:S3Store",
    },
    "clouds": {
        "local": "adapters.clouds.local:LocalCloud",
        "ec2": "adapters.clouds.ec2:Ec2Cloud",
    },
    "workflow": {
        "embedded": "adapters.workflow.embedded:EmbeddedWorkflow",
        "step_functions": "adapters.workflow.step_functions:StepFunctionsWorkflow",
    },
    "githosts": {
        "bare_git": "adapters.githosts.bare_git:BareGit",
    },
    "blueprints": {
        "valohai": "adapters.blueprints.valohai:ValohaiBlueprints",
    },
    "identities": {
        "ec2": "adapters.identities.ec2:Ec2Identity",
    },
    "secrets": {
        "file": "adapters.secrets.file:FileSecrets",
        "parameter_store": "adapters.secrets.parameter_store:ParameterStoreSecrets",
    },
}


def adapter(port: str, name: str) -> Callable[..., Any]:
    """What makes this adapter. Raises `NotFound` naming those there are."""
    there = CATALOGUE[port]
    if name not in there:
        raise NotFound(f'there is no adapter "{name}" for {port}; there are: {", ".join(sorted(there))}')
    module, _, attribute = there[name].partition(":")
    factory: Callable[..., Any] = getattr(import_module(module), attribute)
    return factory
