"""The rules that the stack keeps as a whole, whatever is added to it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest

from functions.aws.settings import Settings
from infra.bundling.plan import FUNCTIONS, LAYERS
from lamplighter import keys
from tests.infra.reading import STACK, of, user_data
from tests.infra.stack import ROOT, Resource, deployed

RESOURCES = STACK.resources

FREE_WHILE_IDLE = {
    "AWS::ApiGatewayV2": {"Api", "ApiMapping", "DomainName", "Integration", "Route", "Stage"},
    "AWS::Budgets": {"Budget"},
    "AWS::CloudFormation": {"Stack"},
    "AWS::CloudWatch": {"Alarm"},
    "AWS::DynamoDB": {"Table"},
    "AWS::EC2": {
        *(
            "InternetGateway",
            "LaunchTemplate",
            "Route",
            "RouteTable",
            "SecurityGroup",
            "Subnet",
            "SubnetRouteTableAssociation",
        ),
        *("VPC", "VPCEndpoint", "VPCGatewayAttachment"),
    },
    "AWS::Events": {"Rule"},
    "AWS::IAM": {"InstanceProfile", "Role"},
    "AWS::Lambda": {"EventInvokeConfig", "EventSourceMapping", "Permission", "Url"},
    "AWS::Logs": {"LogGroup", "MetricFilter"},
    "AWS::S3": {"Bucket", "BucketPolicy"},
    "AWS::SNS": {"Subscription", "Topic", "TopicPolicy"},
    "AWS::SQS": {"Queue", "QueuePolicy"},
    "AWS::Scheduler": {"Schedule"},
    "AWS::Serverless": {"Function", "LayerVersion", "StateMachine"},
}
"""Nothing of this is billed by the hour; alarms alone have a price a month. A new type is added here by somebody who has looked."""

ESSENTIAL = 10
"""Alarm metrics that the free tier of CloudWatch covers, https://aws.amazon.com/cloudwatch/pricing/."""


def arn_of(function: str) -> str:
    return STACK.resource(function).arn


def variables(function: Resource) -> dict[str, Any]:
    return {**STACK.resolve(STACK.source["Globals"]["Function"]["Environment"]["Variables"]), **_own(function)}


def _own(function: Resource) -> dict[str, Any]:
    return function.properties.get("Environment", {}).get("Variables", {})


# --- Cost


def test_nothing_is_of_a_kind_that_costs_while_nobody_works():
    unknown = {
        r.type for r in RESOURCES if r.type.split("::")[2] not in FREE_WHILE_IDLE.get(r.type.rpartition("::")[0], ())
    }

    assert unknown == set()


def test_endpoints_of_the_network_are_of_the_free_kind_and_the_table_has_no_capacity_of_its_own():
    assert {e.properties["VpcEndpointType"] for e in of("EC2::VPCEndpoint").values()} == {"Gateway"}
    assert of("DynamoDB::Table")["Table"].properties["BillingMode"] == "PAY_PER_REQUEST"
    assert [f.name for f in of("Serverless::Function").values() if "ProvisionedConcurrencyConfig" in f.properties] == []


def test_the_alarms_that_are_on_by_default_are_within_the_free_tier():
    assert len(of("CloudWatch::Alarm", deployed())) == ESSENTIAL
    assert of("CloudWatch::Alarm", deployed(AlarmLevel="none")) == {}


def test_without_an_address_nobody_is_mailed_and_no_budget_is_made():
    kinds = {r.type for r in deployed().resources}

    assert kinds & {"AWS::Budgets::Budget", "AWS::SNS::Subscription"} == set()


# --- Functions


def test_each_function_has_a_role_and_a_log_of_its_own_that_forgets():
    functions = of("Serverless::Function")
    logs = {log.properties["LogGroupName"]: log.properties["RetentionInDays"] for log in of("Logs::LogGroup").values()}

    assert len({f.properties["Role"] for f in functions.values()}) == len(functions)
    assert len({f.properties["LoggingConfig"]["LogGroup"] for f in functions.values()}) == len(functions)
    assert all(logs[f.properties["LoggingConfig"]["LogGroup"]] == 30 for f in functions.values())
    assert {f.properties["LoggingConfig"]["SystemLogLevel"] for f in functions.values()} == {"WARN"}


def test_functions_are_those_that_are_bundled_with_the_layers_that_they_need():
    logical = {f"{name.title().replace('_', '')}Function": (name, plan) for name, plan in FUNCTIONS.items()}

    assert {
        name: (f.properties["CodeUri"], f.properties["Handler"], f.properties["Layers"])
        for name, f in of("Serverless::Function").items()
    } == {
        name: (f"build/{bundle}.zip", f"{plan.entry}.handler", [f"{layer.title()}Layer" for layer in plan.layers])
        for name, (bundle, plan) in logical.items()
    }
    assert {r.properties["ContentUri"] for r in of("Serverless::LayerVersion").values()} == {
        f"build/layer-{name}.zip" for name in LAYERS
    }


def test_functions_run_on_what_they_are_bundled_for():
    makefile = (ROOT / "Makefile").read_text()
    bundled = dict(re.findall(r"^(LAMBDA_\w+) \?= (\S+)", makefile, re.M))

    assert STACK.parameters["PythonRuntime"] == f"python{bundled['LAMBDA_PYTHON']}"
    assert STACK.parameters["Architecture"] == bundled["LAMBDA_ARCHITECTURE"]


def test_every_setting_reaches_a_function_and_the_operator():
    settings = {f.name for f in fields(Settings)} - {"region"}
    given = {
        name.removeprefix("LAMPLIGHTER_").lower() for f in of("Serverless::Function").values() for name in variables(f)
    }
    outputs = {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() for name in STACK.outputs}

    assert settings - given == set()
    assert settings | {"region"} <= outputs


def test_the_functions_page_says_which_variables_each_is_given():
    text = (ROOT / "functions" / "aws" / "README.md").read_text()
    table = text.partition("| Variable |")[2].partition("\n\n")[0]
    columns, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    said = {
        (function, f"LAMPLIGHTER_{variable}")
        for names, *marks in lines
        for function, mark in zip(columns, marks, strict=True)
        for variable in re.findall(r"[A-Z][A-Z_]+[A-Z]", names.partition(", where")[0])
        if mark == "x"
    }
    functions = of("Serverless::Function").values()
    given = {(f.properties["Handler"].split(".")[2], name) for f in functions for name in variables(f)}

    assert said == given


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        ({}, "https://workerapiurl.lambda-url.eu-north-1.on.aws"),
        ({"PublicUrl": "https://x.org"}, "https://workerapiurl.lambda-url.eu-north-1.on.aws"),
        ({"WorkerUrl": "https://workers.example.org"}, "https://workers.example.org"),
    ],
)
def test_machines_call_the_function_itself_unless_they_are_told_another_address(parameters: dict[str, str], url: str):
    stack = deployed(**parameters)

    assert _own(of("Serverless::Function", stack)["TasksFunction"])["LAMPLIGHTER_WORKER_URL"] == url
    assert stack.outputs["WorkerUrl"] == url
    assert {user_data(stack, template)["control_url"] for template in ("CpuTemplate", "GpuTemplate")} == {url}


def test_one_function_has_an_address_of_its_own_where_anybody_may_call_it_and_only_there():
    """The other permissions name the one resource that may invoke."""
    (url,) = of("Lambda::Url").values()
    open_to_all = [p.properties for p in of("Lambda::Permission").values() if "SourceArn" not in p.properties]

    assert url.properties == {"TargetFunctionArn": arn_of("WorkerApiFunction"), "AuthType": "NONE"}
    assert open_to_all == [
        {
            "Action": "lambda:InvokeFunctionUrl",
            "FunctionName": "WorkerApiFunction",
            "Principal": "*",
            "FunctionUrlAuthType": "NONE",
        },
        {
            "Action": "lambda:InvokeFunction",
            "FunctionName": "WorkerApiFunction",
            "Principal": "*",
            "InvokedViaFunctionUrl": True,
        },
    ]


def test_user_code_in_a_run_reaches_the_same_function_at_the_public_address():
    route, integration = STACK.resource("WorkerApiRoute"), STACK.resource("WorkerApiIntegration")

    assert route.properties["RouteKey"] == "ANY /api/worker/{proxy+}"
    assert route.properties["Target"] == "integrations/WorkerApiIntegration"
    assert integration.properties["IntegrationUri"] == arn_of("WorkerApiFunction")


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        ({}, "https://api.execute-api.eu-north-1.amazonaws.com"),
        ({"DomainName": "ml.example.org", "CertificateArn": "arn:aws:acm:x"}, "https://ml.example.org"),
        (
            {"DomainName": "ml.example.org", "CertificateArn": "arn:aws:acm:x", "PublicUrl": "https://x.org"},
            "https://x.org",
        ),
    ],
)
def test_all_agree_on_the_address_of_the_installation(parameters: dict[str, str], url: str):
    stack = deployed(**parameters)
    common = stack.resolve(stack.source["Globals"]["Function"]["Environment"]["Variables"])
    cors = of("S3::Bucket", stack)["DataBucket"].properties["CorsConfiguration"]["CorsRules"]

    assert stack.outputs["Url"] == common["LAMPLIGHTER_URL"] == url
    assert [rule["AllowedOrigins"] for rule in cors] == [[url]]


# --- Asynchronous edges


def test_whatever_is_given_up_on_the_way_to_a_function_lies_in_a_queue():
    queues = {queue.arn for queue in of("SQS::Queue").values()}
    streams = of("Lambda::EventSourceMapping").values()
    targets = [t for rule in of("Events::Rule").values() for t in rule.properties["Targets"]]
    targets += [schedule.properties["Target"] for schedule in of("Scheduler::Schedule").values()]
    failures = {c.properties["FunctionName"]: c.properties for c in of("Lambda::EventInvokeConfig").values()}

    assert {s.properties["DestinationConfig"]["OnFailure"]["Destination"] for s in streams} <= queues
    assert {t["DeadLetterConfig"]["Arn"] for t in targets} <= queues
    assert {t["Arn"].rpartition(":")[2] for t in targets} == set(failures)
    assert {p["DestinationConfig"]["OnFailure"]["Destination"] for p in failures.values()} <= queues


def test_a_poisoned_record_of_the_stream_holds_up_the_others_for_hours_at_most():
    for stream in of("Lambda::EventSourceMapping").values():
        assert stream.properties["BisectBatchOnFunctionError"] is True
        assert 0 < stream.properties["MaximumRetryAttempts"] <= 10
        assert 0 < stream.properties["MaximumRecordAgeInSeconds"] <= 6 * 3600


@pytest.mark.parametrize(
    ("mapping", "partition", "heard"),
    [
        ("OutboxStream", keys.outbox("1").partition, True),
        ("OutboxStream", keys.parked("1").partition, False),
        ("OutboxStream", keys.audit("1", "1").partition, False),
        ("AuditStream", keys.audit("1", "1").partition, True),
        ("AuditStream", keys.outbox("1").partition, False),
        ("AuditStream", keys.execution("1").partition, False),
    ],
)
def test_a_reader_of_the_stream_hears_its_own_records_only(mapping: str, partition: str, heard: bool):
    filters = of("Lambda::EventSourceMapping")[mapping].properties["FilterCriteria"]["Filters"]
    pattern = json.loads(filters[0]["Pattern"])

    assert "INSERT" in pattern["eventName"]
    assert partition.startswith(pattern["dynamodb"]["Keys"]["pk"]["S"][0]["prefix"]) is heard


def test_ec2_is_heard_when_a_machine_ends_or_soon_will():
    patterns = [rule.properties["EventPattern"] for rule in of("Events::Rule").values()]

    assert {kind for p in patterns for kind in p["detail-type"]} == {
        "EC2 Instance State-change Notification",
        "EC2 Spot Instance Interruption Warning",
        "EC2 Instance Rebalance Recommendation",
    }
    assert {source for p in patterns for source in p["source"]} == {"aws.ec2"}


def test_queues_take_no_message_in_plain_text_and_lose_none_for_two_weeks():
    policies = {
        p.properties["Queues"][0]: p.properties["PolicyDocument"]["Statement"] for p in of("SQS::QueuePolicy").values()
    }

    for name, queue in of("SQS::Queue").items():
        assert queue.properties["MessageRetentionPeriod"] == 14 * 86400
        assert queue.properties["SqsManagedSseEnabled"] is True
        assert [s["Condition"] for s in policies[name] if s["Effect"] == "Deny"] == [
            {"BoolIfExists": {"aws:SecureTransport": "false"}}
        ]


def test_state_machines_are_given_every_name_that_their_definitions_leave_open():
    for machine in of("Serverless::StateMachine").values():
        text = (ROOT / machine.properties["DefinitionUri"]).read_text()
        assert set(re.findall(r"\$\{(\w+)\}", text)) == set(machine.properties["DefinitionSubstitutions"])


# --- Storage


def test_buckets_are_private_encrypted_and_clear_away_what_was_broken_off():
    policies = {p.properties["Bucket"] for p in of("S3::BucketPolicy").values()}

    for name, bucket in of("S3::Bucket").items():
        assert set(bucket.properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket.properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert bucket.properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        rules = bucket.properties["LifecycleConfiguration"]["Rules"]
        assert {"DaysAfterInitiation": 1} in [rule.get("AbortIncompleteMultipartUpload") for rule in rules]
        assert name in policies


def test_large_answers_are_forgotten_after_a_day():
    rules = of("S3::Bucket")["LogsBucket"].properties["LifecycleConfiguration"]["Rules"]

    assert [rule["ExpirationInDays"] for rule in rules if rule.get("Prefix") == "answers/"] == [1]


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_audit_records_are_locked(mode: str):
    audit = of("S3::Bucket", deployed(AuditLockMode=mode, AuditLockDays=500))["AuditBucket"].properties

    assert audit["VersioningConfiguration"] == {"Status": "Enabled"}
    assert audit["ObjectLockConfiguration"]["Rule"] == {"DefaultRetention": {"Mode": mode, "Days": 500}}


def test_the_table_can_be_restored_and_is_not_deleted_by_mistake():
    table = of("DynamoDB::Table")["Table"].properties

    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["DeletionProtectionEnabled"] is True
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_who_wants_everything_gone_takes_the_protection_off_first():
    assert (
        of("DynamoDB::Table", deployed(DeletionProtection="false"))["Table"].properties["DeletionProtectionEnabled"]
        is False
    )
    assert {r["DeletionPolicy"] for r in kept() if "DeletionPolicy" in r} == {"Delete"}


def kept() -> list[dict[str, Any]]:
    """The resources that hold what people made, as they are written."""
    written = [STACK.source["Resources"]["Storage"], *STACK.nested("Storage").source["Resources"].values()]
    return [
        r for r in written if r["Type"] in ("AWS::CloudFormation::Stack", "AWS::DynamoDB::Table", "AWS::S3::Bucket")
    ]


# --- Parameters


def test_every_parameter_is_explained_checked_and_has_its_place_in_the_form():
    groups = STACK.source["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    declared = STACK.source["Parameters"]

    assert sorted(shown) == sorted(declared)
    for name, about in declared.items():
        assert about["Description"], name
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(about), name
        assert "Default" in about, name


@pytest.mark.parametrize("name", ["PublicUrl", "WorkerUrl"])
@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("", True),
        ("https://ml.example.org", True),
        ("https://ml.example.org:8443", True),
        ("http://127.0.0.1:4566", True),
        ("http://abc.execute-api.localhost:4566", True),
        ("http://ml.example.org", False),
        ("http://localhost.evil.org", False),
        ("https://ml.example.org/", False),
        ("https://user@ml.example.org", False),
        ("ftp://ml.example.org", False),
    ],
)
def test_an_address_is_encrypted_unless_it_is_an_emulators(name: str, address: str, accepted: bool):
    assert bool(re.fullmatch(STACK.source["Parameters"][name]["AllowedPattern"], address)) is accepted
