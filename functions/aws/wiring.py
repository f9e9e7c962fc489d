"""The world of a stack, put together from its settings. Every part but the metadata is made at its first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from adapters.catalogue import adapter
from functions.aws.settings import Settings, read_settings
from functions.ids import RisingClock, RisingIds
from functions.later import Once, later
from functions.stores import BuiltIn, ConfiguredStores, StoreRow
from lamplighter.domain.environments import Environment
from lamplighter.ports import Metadata, Purpose, Secrets, Store
from lamplighter.usecases.installation import read_installation
from lamplighter.world import Installation, World

CLOUD = "ec2"

HEARTBEAT_SECONDS = 30.0
"""A call costs money here: 120 of them in an hour of a run."""

POLL_SECONDS, LONGEST_POLL_SECONDS = 2.0, 5.0
"""Half of it is added, on average, to a start on a warm machine: 1 s in its first half minute, then up to 2.5 s."""

MAX_UPLOAD_BYTES = 4 * 1024 * 1024
"""Lambda takes 6 MB with an event (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html), base64 makes
4 bytes of 3, and the parts around the archive need some."""

MetadataAdapter = Literal["dynamodb", "dynamodb_http"]
"""The one that starts quickly is for the doors; both behave alike."""

_TEMPLATES_TO_COME: Mapping[str, str] = {"cpu": "", "gpu": ""}
"""Before a stack has a worker image: an environment may be described, and the doctor says what it waits for."""

_HOMES: Mapping[Purpose, str] = {"outputs": "data", "code": "code", "logs": "logs"}
_MOVABLE: tuple[Purpose, ...] = ("outputs",)


def sandbox_world(metadata: MetadataAdapter = "dynamodb") -> Once[World]:
    """The world of the function that runs here, made by its first call and kept as long as its sandbox."""
    return Once(lambda: _from_environment(metadata))


def _from_environment(metadata: MetadataAdapter) -> World:
    settings = read_settings(os.environ)
    return make_world(settings, make_metadata(settings, metadata))


def make_metadata(settings: Settings, name: MetadataAdapter = "dynamodb") -> Metadata:
    """The stack's table."""
    made: Metadata = adapter("metadata", name)(settings.need("table"), region=settings.region or None)
    return made


def make_world(settings: Settings, metadata: Metadata, credentials: Callable[[], Any] | None = None) -> World:
    """Everything over this metadata. Reads the installation's own row; raises what the metadata raises.

    `credentials` are an operator's own; a function has those of its role in the environment.
    """
    known = read_installation(metadata)
    secrets = later(lambda: make_secrets(settings, credentials))
    return World(
        installation=Installation(
            id=settings.need("installation"),
            url=settings.need("url"),
            generation=known.generation if known else 1,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            poll_seconds=POLL_SECONDS,
            longest_poll_seconds=LONGEST_POLL_SECONDS,
            max_upload_bytes=MAX_UPLOAD_BYTES,
            live_logs=False,
            worker_url=settings.worker_url,
            max_machines=settings.max_machines,
            daily_budget_usd=settings.daily_budget_usd,
        ),
        metadata=metadata,
        stores=make_stores(settings, metadata, secrets),
        clouds={CLOUD: later(lambda: _cloud(settings))},
        workflow=later(lambda: _workflow(settings)),
        secrets=secrets,
        blueprints=later(_blueprints),
        git=later(lambda: adapter("githosts", "bare_git")()),
        now=RisingClock(),
        new_id=RisingIds(),
        identities={CLOUD: later(lambda: _identity(settings))},
        offer_checks={CLOUD: lambda environment: check_offer(settings, environment)} if settings.subnets else {},
    )


def make_secrets(settings: Settings, credentials: Callable[[], Any] | None = None) -> Secrets:
    """The stack's parameters."""
    own = {"credentials": credentials} if credentials else {}
    made: Secrets = adapter("secrets", "parameter_store")(
        settings.need("secrets_prefix"), region=settings.region or None, **own
    )
    return made


def make_stores(settings: Settings, metadata: Metadata, secrets: Secrets) -> ConfiguredStores:
    """The stack's buckets, reached as whoever runs this, and those stores that an administrator has added for outputs."""
    buckets = {"data": settings.data_bucket, "code": settings.code_bucket, "logs": settings.logs_bucket}
    built_in = {name: _bucket(name, bucket, settings) for name, bucket in buckets.items() if bucket}
    return ConfiguredStores(metadata, secrets, built_in, _HOMES, movable=_MOVABLE)


def _bucket(name: str, bucket: str, settings: Settings) -> BuiltIn:
    store: Store = later(lambda: adapter("stores", "s3")(bucket, region=settings.region or None))
    return BuiltIn(store, StoreRow(name, "s3", {"bucket": bucket}))


def _cloud(settings: Settings) -> Any:
    # No templates is a stack whose worker image is still to be made: it launches nothing, and has nothing to be afraid of.
    return adapter("clouds", "ec2")(settings.launch_templates, settings.need("subnets"), region=settings.region or None)


def check_offer(settings: Settings, environment: Environment) -> None:
    """Raises `LaunchRefused` for an environment that this stack can start no machine of, naming the faulty option."""
    from adapters.clouds.ec2_options import read_options  # not every door needs it

    templates = settings.launch_templates or _TEMPLATES_TO_COME
    read_options(environment.options, templates=templates, subnets=settings.subnets, gpu=bool(environment.gpu_spec))


def _workflow(settings: Settings) -> Any:
    definitions = {"execution": settings.need("execution_machine"), "machine": settings.need("machine_machine")}
    return adapter("workflow", "step_functions")(definitions, region=settings.region or None)


def _identity(settings: Settings) -> Any:
    return adapter("identities", "ec2")(
        region=settings.region,
        account=settings.need("account"),
        role=settings.need("worker_role"),
        installation=settings.need("installation"),
    )


def _blueprints() -> Any:
    from adapters.blueprints.inputs import DEFAULT_SCHEMES  # the YAML parser is slow to load

    return adapter("blueprints", "valohai")(input_schemes=DEFAULT_SCHEMES)
