"""What each role may do, and above all what it may not: role x action x resource x context.

Every row with a context has twins: the same call had AWS not sent one of the keys. A denial stays one, and what is allowed on
a condition is allowed no longer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain, product

import pytest

from adapters.secrets.parameter_store import ParameterStoreSecrets
from lamplighter.contract.sigv4 import Credentials
from tests.infra.iam import Request, Statement, allowed, denied_outright, listed
from tests.infra.stack import ACCOUNT, INSTALLATION, REGION, deployed

STACK = deployed(InstanceTypes="t3.*,g5.xlarge")
ROLES: dict[str, list[Statement]] = {
    r.name: [s for p in r.properties.get("Policies", []) for s in p["PolicyDocument"]["Statement"]]
    for r in STACK.resources
    if r.type == "AWS::IAM::Role"
}
FUNCTIONS = ("Api", "WorkerApi", "Tasks", "Outbox", "Audit", "Events", "Sweep")
AT_TABLE = ("Api", "WorkerApi", "Tasks", "Outbox", "Events", "Sweep")
LAUNCHING, ENDING, FLOWING = ("Tasks",), ("Tasks", "Events", "Sweep"), ("Outbox", "Sweep")


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


TABLE = arn("dynamodb", "table/Table")
STREAM = f"{TABLE}/stream/2026-01-01T00:00:00.000"
DATA, CODE, LOGS, AUDIT = (f"arn:aws:s3:::{name}Bucket" for name in ("Data", "Code", "Logs", "Audit"))
EXECUTIONS, MACHINES = arn("states", "stateMachine:ExecutionMachine"), arn("states", "stateMachine:MachineMachine")
INSTANCE, SUBNET = arn("ec2", "instance/i-0123456789abcdef0"), arn("ec2", "subnet/subnet-1")
FLOWS = (arn("states", "execution:ExecutionMachine:e-1"), arn("states", "execution:MachineMachine:m-1"))
TEMPLATE = arn("ec2", "launch-template/CpuTemplate")
WORKER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/WorkerRole"
TAG = "lamplighter:installation"
OURS, FOREIGN = {f"aws:ResourceTag/{TAG}": INSTALLATION}, {f"aws:ResourceTag/{TAG}": "another"}
VOLUME, INTERFACE = arn("ec2", "volume/vol-1"), arn("ec2", "network-interface/eni-1")
LAUNCHED = (INSTANCE, VOLUME, INTERFACE, arn("ec2", "fleet/fleet-1"), arn("ec2", "spot-instances-request/sir-1"))
IMAGES = tuple(f"arn:aws:ec2:{REGION}::image/ami-0000000000000000{letter}" for letter in "cd")
BY_FLEET = "ec2:CreateFleet ec2:RunInstances"
LAUNCH = {
    "ec2:LaunchTemplate": TEMPLATE,
    f"aws:RequestTag/{TAG}": INSTALLATION,
    "ec2:MetadataHttpTokens": "required",
    "ec2:MetadataHttpPutResponseHopLimit": "1",
    "ec2:InstanceType": "t3.large",
}
TAGGING = {"ec2:CreateAction": "CreateFleet", f"aws:RequestTag/{TAG}": INSTALLATION}


def secret(name: str, prefix: str = STACK.outputs["SecretsPrefix"]) -> str:
    """The parameter that our adapter keeps this secret in."""
    asked: list[str] = []

    class Listening(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["Name"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *about: object) -> None:
            """Tests are quiet."""

    with HTTPServer(("127.0.0.1", 0), Listening) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        store = ParameterStoreSecrets(
            prefix,
            region=REGION,
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            credentials=lambda: CREDENTIALS,
        )
        store.delete(name)
    return arn("ssm", f"parameter{asked[0]}")


def log_stream(function: str) -> str:
    return arn("logs", f"log-group:/lamplighter/lamp/{function}:log-stream:1")


@dataclass(frozen=True)
class Row:
    role: str
    request: Request
    expected: bool

    def __str__(self) -> str:
        verb = "may" if self.expected else "may not"
        keys = "".join(f" {k.rpartition('/')[2]}={v.rpartition('/')[2]}" for k, v in self.request.context.items())
        return f"{self.role} {verb} {self.request.action} {self.request.resource.split(':', 5)[5]}{keys}"


def rows(
    roles: str | tuple[str, ...],
    actions: str,
    resources: str | tuple[str, ...],
    context: Mapping[str, str] | None = None,
    *,
    may: bool,
    others: bool = False,
) -> Iterator[Row]:
    """With `others`, all remaining functions get the opposite."""
    named = (roles,) if isinstance(roles, str) else roles
    places = (resources,) if isinstance(resources, str) else resources
    everyone = FUNCTIONS if others else named
    for role, action, place in product(everyone, actions.split(), places):
        yield Row(f"{role}Role", Request(action, place, context or {}), may == (role in named))


CREDENTIALS = Credentials("AKIDEXAMPLE", "secret")
PROJECT_SECRET, STORE_SECRET, JOIN_KEY = secret("project/1/KEY"), secret("stores/s"), secret("installation/join-key")

ELSEWHERE = (secret("project/1/KEY", "/lamplighter/other"), arn("ssm", "parameter/lamplighter/lamp"))
READ_WRITE = " ".join(
    f"dynamodb:{a}" for a in ("GetItem", "BatchGetItem", "Query", "PutItem", "DeleteItem", "ConditionCheckItem")
)

READ_STREAM = " ".join(f"dynamodb:{a}" for a in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"))
NOT_FOR_WORKERS = "s3:GetObject dynamodb:GetItem ssm:GetParameter sts:AssumeRole ssm:UpdateInstanceInformation"
NAMES = dict(zip(FUNCTIONS, ("api", "worker_api", "tasks", "outbox", "audit", "events", "sweep"), strict=True))
DELIVERY = (
    "logs:CreateLogDelivery logs:GetLogDelivery logs:UpdateLogDelivery logs:DeleteLogDelivery logs:ListLogDeliveries "
    "logs:PutResourcePolicy logs:DescribeResourcePolicies logs:DescribeLogGroups"
)
QUEUES = ("Outbox", "Audit", "Events", "Sweep")

MATRIX = [
    # --- records
    *rows(AT_TABLE, READ_WRITE, TABLE, may=True, others=True),
    *rows(FUNCTIONS, "dynamodb:Scan dynamodb:DeleteTable dynamodb:UpdateTable dynamodb:ExportTableToPointInTime", TABLE, may=False),
    *rows(AT_TABLE, "dynamodb:GetItem dynamodb:PutItem", arn("dynamodb", "table/Another"), may=False),
    *rows(("Outbox", "Audit"), READ_STREAM, STREAM, may=True, others=True),
    # --- objects
    *rows(("Api", "WorkerApi"), "s3:GetObject", f"{DATA}/data/exec-1/x", may=True, others=True),
    *rows("WorkerApi", "s3:PutObject", f"{DATA}/data/exec-1/x", may=True, others=True),
    *rows(("Tasks", "Outbox", "Sweep"), "s3:DeleteObject", f"{DATA}/data/exec-1/x", may=True, others=True),
    *rows(("Api", "WorkerApi"), "s3:GetObject", f"{CODE}/code/p/x.tgz", may=True, others=True),
    *rows("Api", "s3:PutObject s3:AbortMultipartUpload", f"{CODE}/code/p/x.tgz", may=True, others=True),
    *rows(FUNCTIONS, "s3:DeleteObject", (f"{CODE}/code/p/x.tgz", f"{LOGS}/logs/x", f"{AUDIT}/2026/01/01/x"), may=False),
    *rows("WorkerApi", "s3:PutObject s3:AbortMultipartUpload", f"{LOGS}/logs/x", may=True, others=True),
    *rows("Api", "s3:GetObject", f"{LOGS}/logs/x", may=True, others=True),
    *rows("Api", "s3:GetObject s3:PutObject", f"{LOGS}/answers/x", may=True, others=True),
    *rows(("Api", "WorkerApi"), "s3:PutObject s3:GetObject", (f"{DATA}/elsewhere/x", f"{CODE}/elsewhere/x"), may=False),
    *rows("Audit", "s3:PutObject", f"{AUDIT}/2026/01/01/x.jsonl", may=True, others=True),
    *rows(FUNCTIONS, "s3:GetObject s3:PutObjectRetention s3:BypassGovernanceRetention", f"{AUDIT}/2026/01/01/x", may=False),
    *rows(FUNCTIONS, "s3:PutBucketPolicy s3:DeleteBucket s3:PutLifecycleConfiguration", (DATA, AUDIT), may=False),
    *rows("WorkerApi", "s3:ListBucket", DATA, may=True, others=True),
    *rows("Api", "s3:ListBucket", (CODE, LOGS), may=True, others=True),
    *rows(FUNCTIONS, "s3:ListBucket", AUDIT, may=False),
    # --- secrets
    *rows("WorkerApi", "ssm:GetParameter", (PROJECT_SECRET, secret("registry/1/x")), may=True, others=True),
    *rows("Api", "ssm:PutParameter ssm:DeleteParameter", PROJECT_SECRET, may=True, others=True),
    *rows("WorkerApi", "ssm:GetParameter", JOIN_KEY, may=True, others=True),
    *rows(("Api", "WorkerApi", "Tasks", "Outbox", "Sweep"), "ssm:GetParameter", STORE_SECRET, may=True, others=True),
    *rows(FUNCTIONS, "ssm:GetParameter ssm:GetParametersByPath", ELSEWHERE, may=False),
    *rows(FUNCTIONS, "ssm:PutParameter", (STORE_SECRET, JOIN_KEY), may=False),
    # --- workflow
    *rows(FLOWING, "states:StartExecution", (EXECUTIONS, MACHINES), may=True, others=True),
    *rows(FUNCTIONS, "states:StartExecution", arn("states", "stateMachine:Another"), may=False),
    *rows(FLOWING, "states:SendTaskSuccess states:SendTaskFailure", "arn:aws:states:::", may=True, others=True),
    *rows(FLOWING, "states:DescribeExecution", FLOWS, may=True, others=True),
    *rows(FUNCTIONS, "states:DescribeExecution", arn("states", "execution:Another:m-1"), may=False),
    *rows(FUNCTIONS, "states:StopExecution", FLOWS, may=False),
    *rows(FUNCTIONS, "states:UpdateStateMachine states:DeleteStateMachine", EXECUTIONS, may=False),
    *rows(FUNCTIONS, "lambda:InvokeFunction", arn("lambda", "function:TasksFunction"), may=False),
    # --- launching: only by our templates, under our tag, with a metadata service that containers cannot reach
    *rows(LAUNCHING, "ec2:CreateFleet", (arn("ec2", "fleet/fleet-1"), INSTANCE, VOLUME), may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, (TEMPLATE, arn("ec2", "launch-template/GpuTemplate")), may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, arn("ec2", "launch-template/lt-another"), may=False),
    *rows(LAUNCHING, "ec2:RunInstances", INSTANCE, LAUNCH, may=True, others=True),
    *rows(LAUNCHING, "ec2:RunInstances", INSTANCE, LAUNCH | {"ec2:InstanceType": "g5.xlarge"}, may=True),
    *rows(LAUNCHING, "ec2:RunInstances", INSTANCE, LAUNCH | {"ec2:InstanceType": "p4d.24xlarge"}, may=False),
    *rows(LAUNCHING, "ec2:RunInstances", INSTANCE, LAUNCH | {"ec2:MetadataHttpTokens": "optional"}, may=False),
    *rows(LAUNCHING, "ec2:RunInstances", INSTANCE, LAUNCH | {"ec2:MetadataHttpPutResponseHopLimit": "2"}, may=False),
    *rows(LAUNCHING, "ec2:RunInstances", INSTANCE, LAUNCH | {f"aws:RequestTag/{TAG}": "another"}, may=False),
    *rows(LAUNCHING, "ec2:RunInstances", INSTANCE, LAUNCH | {"ec2:LaunchTemplate": arn("ec2", "launch-template/x")}, may=False),
    *rows(LAUNCHING, BY_FLEET, arn("ec2", "spot-instances-request/sir-1"), may=True, others=True),
    *rows(LAUNCHING, "ec2:RunInstances", VOLUME, {"ec2:LaunchTemplate": TEMPLATE}, may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, INTERFACE, {"ec2:LaunchTemplate": TEMPLATE}, may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, INTERFACE, {"ec2:LaunchTemplate": arn("ec2", "launch-template/x")}, may=False),
    *rows(LAUNCHING, BY_FLEET, arn("ec2", "security-group/WorkerFirewall"), may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, arn("ec2", "security-group/sg-another"), may=False),
    *rows(LAUNCHING, BY_FLEET, SUBNET, {"ec2:SubnetID": "FirstSubnet"}, may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, SUBNET, {"ec2:SubnetID": "subnet-another"}, may=False),
    *rows(LAUNCHING, BY_FLEET, IMAGES, may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, f"arn:aws:ec2:{REGION}::image/ami-1", {"ec2:Owner": ACCOUNT}, may=True, others=True),
    *rows(LAUNCHING, BY_FLEET, f"arn:aws:ec2:{REGION}::image/ami-1", {"ec2:Owner": "amazon"}, may=False),
    *rows(LAUNCHING, "ec2:RunInstances", arn("ec2", "key-pair/anybody"), may=False),
    *rows(LAUNCHING, "ec2:CreateTags", LAUNCHED, TAGGING, may=True, others=True),
    *rows(LAUNCHING, "ec2:CreateTags", INSTANCE, TAGGING | {"ec2:CreateAction": "CreateVolume"}, may=False),
    *rows(LAUNCHING, "ec2:CreateTags", INSTANCE, {f"aws:RequestTag/{TAG}": INSTALLATION}, may=False),
    *rows(LAUNCHING, "ec2:CreateTags", INSTANCE, TAGGING | {f"aws:RequestTag/{TAG}": "another"}, may=False),
    *rows(LAUNCHING, "iam:PassRole", WORKER_ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}, may=True, others=True),
    *rows(LAUNCHING, "iam:PassRole", WORKER_ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}, may=False),
    *rows(FUNCTIONS, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/Admin", {"iam:PassedToService": "ec2.amazonaws.com"}, may=False),
    *rows(FUNCTIONS, "ec2:CreateLaunchTemplateVersion ec2:ModifyLaunchTemplate", TEMPLATE, OURS, may=False),
    *rows(FUNCTIONS, "iam:CreateRole iam:PutRolePolicy sts:AssumeRole", WORKER_ROLE, may=False),
    # --- ending: ours only
    *rows(ENDING, "ec2:DescribeInstances", "arn:aws:ec2:::", may=True, others=True),
    *rows(ENDING, "ec2:TerminateInstances", INSTANCE, OURS, may=True, others=True),
    *rows(ENDING, "ec2:TerminateInstances", INSTANCE, FOREIGN, may=False),
    *rows(ENDING, "ec2:StopInstances ec2:ModifyInstanceAttribute", INSTANCE, OURS, may=False),
    # --- dead letters and logs: each its own
    *chain.from_iterable(rows(q, "sqs:SendMessage", arn("sqs", f"{q}Dead"), may=True, others=True) for q in QUEUES),
    *rows(FUNCTIONS, "sqs:ReceiveMessage sqs:PurgeQueue", arn("sqs", "OutboxDead"), may=False),
    *chain.from_iterable(
        rows(f, "logs:CreateLogStream logs:PutLogEvents", log_stream(name), may=True, others=True) for f, name in NAMES.items()
    ),
    # --- those who are no function
    *rows("Flows", "lambda:InvokeFunction", arn("lambda", "function:TasksFunction"), may=True),
    *rows("Flows", "lambda:InvokeFunction", arn("lambda", "function:SweepFunction"), may=False),
    *rows("Flows", "dynamodb:GetItem dynamodb:PutItem", TABLE, may=False),
    *rows("Flows", DELIVERY, "arn:aws:logs:::", may=True),
    *rows("SweepSchedule", "sqs:SendMessage", arn("sqs", "SweepDead"), may=True),
    *rows("SweepSchedule", "lambda:InvokeFunction", arn("lambda", "function:SweepFunction"), may=True),
    *rows("SweepSchedule", "lambda:InvokeFunction", arn("lambda", "function:TasksFunction"), may=False),
    *rows("Worker", "ec2:DescribeInstances ec2:TerminateInstances", INSTANCE, OURS, may=False),
    *rows("Worker", NOT_FOR_WORKERS, "arn:aws:any:::", may=False),
]  # fmt: skip

TWINS = [(row, key) for row in MATRIX for key in row.request.context]


@pytest.mark.parametrize("row", MATRIX, ids=str)
def test_a_role_may_do_what_its_work_needs_and_nothing_else(row: Row):
    assert allowed(ROLES[row.role], row.request) is row.expected


@pytest.mark.parametrize(("row", "key"), TWINS, ids=lambda part: str(part))
def test_a_condition_whose_key_is_absent_never_allows(row: Row, key: str):
    assert not allowed(ROLES[row.role], row.request.without(key))


def test_the_matrix_is_as_large_as_promised():
    assert len(MATRIX) >= 250
    assert {row.role for row in MATRIX} == set(ROLES)


def weakened(statement: Statement) -> Iterator[tuple[str, list[Statement]]]:
    """What could go wrong with it in an edit: it is lost, or one of its actions, resources or conditions is."""
    yield "is lost", []
    for part in ("Action", "Resource"):
        given = listed(statement[part])
        for item in given if len(given) > 1 else ():
            yield f"loses {item}", [{**statement, part: [other for other in given if other != item]}]
    for operator, keys in statement.get("Condition", {}).items():
        for key in keys:
            left = {**statement["Condition"], operator: {k: v for k, v in keys.items() if k != key}}
            yield f"loses its condition on {key}", [{**statement, "Condition": left}]


def unnoticed() -> list[str]:
    """Edits of a policy after which every row and every twin still comes out right."""
    found = []
    for role, statements in ROLES.items():
        mine = [(row.request, row.expected) for row in MATRIX if row.role == role]
        mine += [(row.request.without(key), False) for row, key in TWINS if row.role == role]
        for statement in statements:
            others = [s for s in statements if s is not statement]
            found += [
                f"{role}: {statement['Sid']} {edit}"
                for edit, changed in weakened(statement)
                if all(allowed([*others, *changed], request) is expected for request, expected in mine)
            ]
    return found


def test_every_part_of_every_policy_has_a_row_that_needs_it():
    assert unnoticed() == []


BUCKETS = {
    r.properties["Bucket"]: r.properties["PolicyDocument"]["Statement"]
    for r in STACK.resources
    if r.type == "AWS::S3::BucketPolicy"
}
SIGNED = {"aws:SecureTransport": "true", "s3:authType": "REST-QUERY-STRING", "s3:signatureAge": "900000"}
BY_HEADER = {"aws:SecureTransport": "true", "s3:authType": "REST-HEADER"}


@pytest.mark.parametrize("bucket", ["DataBucket", "CodeBucket", "LogsBucket"])
@pytest.mark.parametrize(
    ("context", "refused"),
    [
        (SIGNED, False),
        (BY_HEADER, False),
        (SIGNED | {"s3:signatureAge": "900001"}, True),
        (SIGNED | {"aws:SecureTransport": "false"}, True),
        (BY_HEADER | {"aws:SecureTransport": "false"}, True),
        ({k: v for k, v in SIGNED.items() if k != "aws:SecureTransport"}, True),
        ({k: v for k, v in SIGNED.items() if k != "s3:signatureAge"}, True),
    ],
)
def test_a_bucket_refuses_plain_text_and_signed_urls_that_are_older_than_a_quarter_of_an_hour(
    bucket: str, context: dict[str, str], refused: bool
):
    request = Request("s3:GetObject", f"arn:aws:s3:::{bucket}/data/x", context)

    assert denied_outright(BUCKETS[bucket], request) is refused


def test_nobody_writes_to_the_audit_bucket_in_plain_text():
    request = Request("s3:PutObject", f"{AUDIT}/x", {"aws:SecureTransport": "false"})

    assert denied_outright(BUCKETS["AuditBucket"], request)


def test_no_statement_has_a_wildcard_for_an_action_and_few_have_one_for_a_resource():
    everything = {
        (role, s["Sid"]) for role, statements in ROLES.items() for s in statements if "*" in listed(s["Resource"])
    }
    actions = [a for statements in ROLES.values() for s in statements for a in listed(s["Action"])]

    assert [a for a in actions if "*" in a or "?" in a] == []
    # Calls that know no resources: DescribeInstances, answers to task tokens, the delivery of logs.
    assert everything == {
        *((f"{name}Role", "SeeMachines") for name in ENDING),
        *((f"{name}Role", "AnswerFlows") for name in FLOWING),
        ("FlowsRole", "DeliverLogs"),
    }


def test_conditions_are_of_kinds_that_hold_only_where_their_key_is_there():
    operators = {o for statements in ROLES.values() for s in statements for o in s.get("Condition", {})}

    assert operators == {"StringEquals", "StringLike", "ArnEquals", "NumericLessThanEquals"}


def test_no_role_is_more_than_what_is_spelled_out_here_and_each_can_be_bounded():
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    roles = [r for r in deployed(PermissionsBoundaryArn=boundary).resources if r.type == "AWS::IAM::Role"]

    assert [r.name for r in roles if "ManagedPolicyArns" in r.properties] == []
    assert [r.name for r in roles if r.properties["PermissionsBoundary"] != boundary] == []


def test_a_role_is_assumed_by_the_one_service_that_needs_it():
    roles = {
        r.name: r.properties["AssumeRolePolicyDocument"]["Statement"]
        for r in STACK.resources
        if r.type == "AWS::IAM::Role"
    }
    services = {name: [s["Principal"]["Service"] for s in statements] for name, statements in roles.items()}

    assert services == {
        **{f"{name}Role": ["lambda.amazonaws.com"] for name in FUNCTIONS},
        "FlowsRole": ["states.amazonaws.com"],
        "SweepScheduleRole": ["scheduler.amazonaws.com"],
        "WorkerRole": ["ec2.amazonaws.com"],
    }


def test_the_role_of_worker_machines_has_no_statement():
    assert ROLES["WorkerRole"] == []
