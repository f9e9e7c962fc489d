"""A function's world: made from its variables by its first call, each part when it is first needed."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import boto3
import pytest

from functions.aws import api, worker_api
from functions.aws.settings import Settings
from functions.aws.wiring import make_metadata, make_world, sandbox_world
from functions.later import Once, later
from lamplighter.errors import LaunchRefused, NotFound, Unavailable
from lamplighter.ports import LaunchRequest
from lamplighter.usecases.initialise import initialise
from tests.conformance.metadata_places import REGION
from tests.functions.aws.gateway_client import GatewayClient


@pytest.fixture
def table(aws: str) -> str:
    """An empty table of the emulator."""
    name = f"records-{uuid.uuid4().hex[:8]}"
    boto3.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": a, "AttributeType": "S"} for a in ("pk", "sk")],
    )
    return name


def _settings(table: str, **more: object) -> Settings:
    given = {"region": REGION, "table": table, "installation": "i-1", "url": "https://ml.example.org"}
    return Settings(**{**given, **more})  # type: ignore[arg-type]


def test_a_function_answers_from_its_variables_alone(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(table)
    initialise(admin_password="secret", environment=None, world=make_world(settings, make_metadata(settings)))
    variables = {"TABLE": table, "INSTALLATION": "i-1", "URL": "https://ml.example.org/"}
    for name, value in variables.items():
        monkeypatch.setenv(f"LAMPLIGHTER_{name}", value)
    people = GatewayClient(api.make_handler(sandbox_world("dynamodb_http")))
    machines = GatewayClient(worker_api.make_handler(sandbox_world("dynamodb_http")))

    logged_in = people.post("/api/v0/get-token/", {"username": "admin", "password": "secret"})
    refused = machines.post("/api/worker/v0/lease/", {"claim_id": "c"}, headers={"authorization": "Session none"})

    assert (people.get("/api/health/").status, logged_in.status) == (200, 200)
    assert (refused.status, refused.json["code"]) == (401, "not_authenticated")


def test_a_door_whose_table_is_missing_says_so_to_its_caller_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMPLIGHTER_TABLE", raising=False)

    for make in (api.make_handler, worker_api.make_handler):
        reply = GatewayClient(make(sandbox_world("dynamodb_http"))).get("/api/worker/v0/nothing/")
        assert (reply.status, "LAMPLIGHTER_TABLE is not set" in reply.json["message"]) == (503, True)


def test_an_environment_that_the_stack_could_not_launch_is_refused_at_the_api_too(table: str) -> None:
    settings = _settings(table, subnets=("subnet-1",), launch_templates={"cpu": "lt-1"})
    world = make_world(settings, make_metadata(settings))
    initialise(admin_password="secret", environment=None, world=world)
    people = GatewayClient(api.make_handler(lambda: world))
    people.token = people.post("/api/v0/get-token/", {"username": "admin", "password": "secret"}).json["token"]
    wish = {"slug": "cpu", "name": "CPU", "cloud": "ec2"}

    misspelt = people.post("/api/v0/environments/", {**wish, "options": {"instance_typs": ["t3.medium"]}})
    right = people.post("/api/v0/environments/", {**wish, "options": {"instance_types": ["t3.medium"]}})

    assert (misspelt.status, right.status) == (400, 201)
    assert "instance_typs" in str(misspelt.json)
    assert [found["slug"] for found in people.get("/api/v0/environments/").json["results"]] == ["cpu"]


def test_what_costs_nothing_on_one_server_is_spared_here(table: str) -> None:
    settings = _settings(table, max_machines=5, worker_url="https://agents.example.org")

    whole = make_world(settings, make_metadata(settings)).installation

    assert (whole.heartbeat_seconds, whole.live_logs) == (30.0, False)
    assert (whole.poll_seconds, whole.longest_poll_seconds) == (2.0, 5.0)
    assert (whole.max_upload_bytes, whole.max_machines) == (4 * 1024 * 1024, 5)
    assert (whole.url, whole.worker_url) == ("https://ml.example.org", "https://agents.example.org")


def test_each_purpose_has_its_bucket(table: str) -> None:
    settings = _settings(table, data_bucket="d", code_bucket="c", logs_bucket="l")
    stores = make_world(settings, make_metadata(settings)).stores

    assert [stores.home(purpose) for purpose in ("outputs", "code", "logs")] == ["data", "code", "logs"]
    assert stores.uri("code", "x") == "s3://c/x"
    assert stores.locate("s3://d/some/key") == ("data", "some/key")
    with pytest.raises(NotFound, match="data, code, logs"):
        stores.named("local")


@pytest.mark.parametrize(
    ("use", "variable"),
    [
        (lambda world: world.secrets.get("x"), "LAMPLIGHTER_SECRETS_PREFIX"),
        (lambda world: world.workflow.stop("x", "y"), "LAMPLIGHTER_EXECUTION_MACHINE"),
        (lambda world: world.clouds["ec2"].terminate("x"), "LAMPLIGHTER_SUBNETS"),
        (lambda world: world.identities["ec2"].cloud_id({}), "LAMPLIGHTER_ACCOUNT"),
    ],
)
def test_a_part_is_missed_by_what_needs_it_and_by_nothing_else(
    table: str, use: Callable[[object], object], variable: str
) -> None:
    settings = _settings(table)
    world = make_world(settings, make_metadata(settings))

    with pytest.raises(Unavailable, match=variable):
        use(world)


def test_a_stack_without_a_worker_image_has_a_cloud_that_launches_nothing_and_says_why(table: str) -> None:
    settings = _settings(table, subnets=("subnet-1",))
    cloud = make_world(settings, make_metadata(settings)).clouds["ec2"]
    wish = LaunchRequest("t", "m-1", "i-1", "cpu", "https://ml.example.org", "j", {"instance_types": ["t3.large"]})

    assert cloud.describe("i-1") == ()
    with pytest.raises(LaunchRefused, match="WorkerImageId"):
        cloud.launch(wish)


def test_what_is_made_later_is_made_once_and_a_failure_is_tried_again() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("x")
        if len(made) == 1:
            raise Unavailable("not now")
        return "text"

    once, part = Once(make), later(lambda: "later")

    with pytest.raises(Unavailable):
        once()
    assert (once(), once(), made) == ("text", "text", ["x", "x"])
    assert part.upper() == "LATER"
