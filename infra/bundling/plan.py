"""What goes into each deployed bundle: the one table that is edited when a function or a layer is added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Function:
    """A Lambda function: its entry module, modules that it finds by name only, folders beside the code, its layers.

    A name that ends with `.*` means every module of that package.
    """

    entry: str
    by_name: tuple[str, ...]
    folders: tuple[str, ...] = ()
    layers: tuple[str, ...] = ("sdk",)


@dataclass(frozen=True, slots=True)
class Layer:
    """Third-party packages. `services` are the AWS service models that botocore keeps; the rest of its data is left out."""

    packages: tuple[str, ...]
    services: tuple[str, ...] = ()


_S3 = "adapters.stores.s3"
_SECRETS = "adapters.secrets.parameter_store"
_HOT = ("adapters.metadata.dynamodb_http", _SECRETS, _S3)
_USUAL = ("adapters.metadata.dynamodb", _SECRETS, _S3)
_EC2 = "adapters.clouds.ec2"
_FLOWS = "adapters.workflow.step_functions"

FUNCTIONS: Mapping[str, Function] = {
    "api": Function(
        "functions.aws.api",
        (*_HOT, "adapters.githosts.bare_git", "adapters.blueprints.valohai", "functions.routes.*", "functions.openapi"),
        folders=("web",),
        layers=("sdk", "doors"),
    ),
    "worker_api": Function("functions.aws.worker_api", (*_HOT, "adapters.identities.ec2")),
    "tasks": Function("functions.aws.tasks", (*_USUAL, _EC2)),
    "outbox": Function("functions.aws.outbox", (*_USUAL, _FLOWS)),
    "audit": Function("functions.aws.audit", (_S3,)),
    "events": Function("functions.aws.events", (*_USUAL, _EC2)),
    "sweep": Function("functions.aws.sweep", (*_USUAL, _EC2, _FLOWS)),
}

LAYERS: Mapping[str, Layer] = {
    "sdk": Layer(("boto3", "pynamodb"), services=("dynamodb", "ec2", "s3", "stepfunctions", "ssm")),
    "doors": Layer(("aws-lambda-powertools", "pydantic", "python-multipart", "valohai-yaml", "dulwich")),
}
