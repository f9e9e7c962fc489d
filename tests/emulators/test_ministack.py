"""What tests rely on when they take our emulator for AWS: each fix, and each option."""

from __future__ import annotations

import io
import json
import subprocess
import textwrap
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from tests.e2e.server import until
from tests.emulators.ministack import ACCOUNT, Ministack
from tests.emulators.theatre import Theatre

ROLE = f"arn:aws:iam::{ACCOUNT}:role/tests"
TRUST = {
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]
}

FUNCTION = """
    import os, time
    import boto3

    CALLS = []

    class LampBroken(Exception):
        pass

    def handler(event, context):
        CALLS.append(event)
        if event == "break":
            raise LampBroken("the wick")
        if event == "sleep":
            time.sleep(2)
        if event == "list":
            return boto3.client("dynamodb").list_tables()["TableNames"]
        return {"calls": len(CALLS), "endpoint": os.environ["AWS_ENDPOINT_URL"]}
"""

STACK = {
    "Resources": {
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {"RoleName": "lamps", "AssumeRolePolicyDocument": TRUST},
        },
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": "lamps",
                "Runtime": "python3.11",
                "Handler": "index.handler",
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Timeout": 30,
                "ReservedConcurrentExecutions": 1,
                "Code": {"ZipFile": textwrap.dedent(FUNCTION)},
            },
        },
        "Api": {
            "Type": "AWS::ApiGatewayV2::Api",
            "Properties": {
                "Name": "lamps",
                "ProtocolType": "HTTP",
                "CorsConfiguration": {"AllowOrigins": ["https://lamps.example"], "AllowMethods": ["GET"]},
            },
        },
        "Stage": {
            "Type": "AWS::ApiGatewayV2::Stage",
            "Properties": {"ApiId": {"Ref": "Api"}, "StageName": "$default", "AutoDeploy": True},
        },
    },
    "Outputs": {"Api": {"Value": {"Ref": "Api"}}},
}

NESTED = {
    "Parameters": {"Text": {"Type": "String"}},
    "Resources": {
        "Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {"GroupDescription": "lamps"}},
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"Tags": [{"Key": "text", "Value": {"Ref": "Text"}}]}},
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                "Tags": [{"Key": "text", "Value": {"Ref": "Text"}}],
            },
        },
    },
    "Outputs": {
        "All": {
            "Value": {
                "Fn::Join": [" ", [{"Fn::GetAtt": ["Group", "GroupId"]}, {"Ref": "Bucket"}, {"Ref": "Table"}]],
            }
        }
    },
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    with Ministack(tmp_path_factory.mktemp("ministack")) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def stack(aws: Ministack) -> dict[str, str]:
    """The outputs of a stack with one function and one API."""
    client = aws.client("cloudformation")
    client.create_stack(StackName="lamps", TemplateBody=json.dumps(STACK), Capabilities=["CAPABILITY_NAMED_IAM"])
    client.get_waiter("stack_create_complete").wait(StackName="lamps", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    [made] = client.describe_stacks(StackName="lamps")["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in made["Outputs"]}


def deploy(emulator: Ministack, role: str = ROLE) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", textwrap.dedent(FUNCTION))
    emulator.client("lambda").create_function(
        FunctionName="lamps",
        Runtime="python3.11",
        Role=role,
        Handler="index.handler",
        Code={"ZipFile": archive.getvalue()},
        Timeout=30,
    )


def call(emulator: Ministack, event: Any) -> Any:
    return json.loads(
        emulator.client("lambda").invoke(FunctionName="lamps", Payload=json.dumps(event))["Payload"].read()
    )


# --- Fixes ----------------------------------------------------------------------------------------------------------


def test_a_function_that_raises_fails_under_the_name_of_the_exception_and_lives_on(
    aws: Ministack, stack: dict[str, str]
) -> None:
    before = call(aws, "count")["calls"]

    failed = call(aws, "break")

    assert (failed["errorType"], failed["errorMessage"]) == ("LampBroken", "the wick")
    assert call(aws, "count")["calls"] == before + 2


def test_reserved_concurrency_of_a_template_limits_the_function(aws: Ministack, stack: dict[str, str]) -> None:
    client = aws.client("lambda", config=Config(retries={"total_max_attempts": 1}))

    def attempt(_number: int) -> str:
        try:
            client.invoke(FunctionName="lamps", Payload=b'"sleep"')
        except client.exceptions.TooManyRequestsException:
            return "throttled"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        done = sorted(pool.map(attempt, range(2)))

    assert done == ["done", "throttled"]


def test_cors_of_a_template_answers_a_preflight(aws: Ministack, stack: dict[str, str]) -> None:
    request = urllib.request.Request(
        f"{aws.api_url(stack['Api'])}/lamps",
        method="OPTIONS",
        headers={"Origin": "https://lamps.example", "Access-Control-Request-Method": "GET"},
    )

    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://lamps.example"


def test_an_update_of_a_nested_stack_replaces_nothing_that_can_stay(aws: Ministack) -> None:
    s3, client = aws.client("s3"), aws.client("cloudformation")
    s3.create_bucket(Bucket="nests")
    s3.put_object(Bucket="nests", Key="nested.json", Body=json.dumps(NESTED))
    names = []

    for text in ("first", "second"):
        properties = {"TemplateURL": f"{aws.url}/nests/nested.json", "Parameters": {"Text": text}}
        nest = {"Nest": {"Type": "AWS::CloudFormation::Stack", "Properties": properties}}
        outputs = {"All": {"Value": {"Fn::GetAtt": ["Nest", "Outputs.All"]}}}
        body = json.dumps({"Resources": nest, "Outputs": outputs})
        kind = "update" if names else "create"
        getattr(client, f"{kind}_stack")(StackName="nest", TemplateBody=body)
        client.get_waiter(f"stack_{kind}_complete").wait(StackName="nest", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        names.append(client.describe_stacks(StackName="nest")["Stacks"][0]["Outputs"][0]["OutputValue"])

    assert names[0].startswith("sg-")
    assert names == [names[0]] * 2


def test_answers_to_closed_and_to_unknown_tokens_are_told_apart(emulated_step_functions: Theatre) -> None:
    theatre = emulated_step_functions
    tokens: list[str] = []
    theatre.tasks.reactions["begin"] = lambda call: tokens.append(call["task_token"])
    arn = theatre.deploy(waiting())
    theatre.client.start_execution(stateMachineArn=arn, name="e1", input="{}")
    theatre.emulator.pass_time(0)
    theatre.client.send_task_success(taskToken=tokens[0], output="{}")

    with pytest.raises(theatre.client.exceptions.TaskTimedOut):
        theatre.client.send_task_success(taskToken=tokens[0], output="{}")
    with pytest.raises(theatre.client.exceptions.InvalidToken):
        theatre.client.send_task_failure(taskToken="never-given", error="Lost")


def test_a_start_that_is_repeated_while_it_runs_is_the_same_start(emulated_step_functions: Theatre) -> None:
    theatre = emulated_step_functions
    arn = theatre.deploy(waiting())
    first = theatre.client.start_execution(stateMachineArn=arn, name="e1", input='{"a":1}')

    again = theatre.client.start_execution(stateMachineArn=arn, name="e1", input='{"a":1}')

    assert again["executionArn"] == first["executionArn"]
    with pytest.raises(theatre.client.exceptions.ExecutionAlreadyExists):
        theatre.client.start_execution(stateMachineArn=arn, name="e1", input='{"a":2}')
    theatre.client.stop_execution(executionArn=first["executionArn"])
    with pytest.raises(theatre.client.exceptions.ExecutionAlreadyExists):
        theatre.client.start_execution(stateMachineArn=arn, name="e1", input='{"a":1}')


def test_a_limit_that_is_an_expression_ends_a_wait_in_real_time_too(aws: Ministack, stack: dict[str, str]) -> None:
    client = aws.client("stepfunctions")
    definition = waiting(TimeoutSeconds="{% $states.input.seconds %}")
    text = json.dumps(definition).replace("${TasksFunctionArn}", "lamps")
    arn = client.create_state_machine(name="limited", definition=text, roleArn=ROLE)["stateMachineArn"]
    execution = client.start_execution(stateMachineArn=arn, input='{"seconds": 1}')["executionArn"]

    def ended() -> Any:
        found = client.describe_execution(executionArn=execution)
        return None if found["status"] == "RUNNING" else found

    found = until(ended, "the execution has ended")
    assert (found["status"], found["error"]) == ("FAILED", "States.Timeout")


def waiting(**fields: Any) -> dict[str, Any]:
    """A state machine that waits for one answer."""
    payload = {"task": "begin", "task_token": "{% $states.context.Task.Token %}"}
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
        "Arguments": {"FunctionName": "${TasksFunctionArn}", "Payload": payload},
        "End": True,
        **fields,
    }
    return {"QueryLanguage": "JSONata", "StartAt": "Begin", "States": {"Begin": state}}


# --- Options --------------------------------------------------------------------------------------------------------


def test_functions_reach_the_emulator_under_the_address_that_was_given(tmp_path: Path) -> None:
    with Ministack(tmp_path, bind="0.0.0.0", address="127.0.0.2") as aws:
        deploy(aws)

        assert call(aws, "count")["endpoint"] == aws.url == f"http://127.0.0.2:{aws.port}"


def test_with_policies_enforced_a_function_may_only_what_its_role_may(tmp_path: Path) -> None:
    with Ministack(tmp_path, enforce_iam=True) as aws:
        iam = aws.client("iam")
        role = iam.create_role(RoleName="lamps", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        deploy(aws, role)
        refused = call(aws, "list")
        allowed = {"Statement": [{"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"}]}
        iam.put_role_policy(RoleName="lamps", PolicyName="list", PolicyDocument=json.dumps(allowed))

        assert "AccessDenied" in refused["errorMessage"]
        assert call(aws, "list") == []


def test_what_is_kept_is_there_after_another_start(tmp_path: Path) -> None:
    aws = Ministack(tmp_path, keep=True)
    with aws:
        aws.client("sqs").create_queue(QueueName="lamps")

    with aws:
        assert [url.rpartition("/")[2] for url in aws.client("sqs").list_queues()["QueueUrls"]] == ["lamps"]


def test_nothing_is_left_running(tmp_path: Path) -> None:
    with Ministack(tmp_path) as aws:
        deploy(aws)
        call(aws, "count")
        assert processes(tmp_path)

    until(lambda: not processes(tmp_path), "the functions have ended")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(aws.url, timeout=5)


def processes(folder: Path) -> list[str]:
    """The processes whose command names this folder, as those of functions do."""
    return subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True).stdout.split()
