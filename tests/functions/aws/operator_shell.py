"""The operator's shell before a stack on the emulator."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from functions.local.cli import main
from tests.conformance.metadata_places import REGION

FLOW = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})


@dataclass
class Shell:
    """The operator's shell, and what was printed to it."""

    stack: str
    url: str
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: str, stack: str | None = None, region: str | None = REGION) -> tuple[int, str]:
        where = ["--region", region] if region else []
        code = main(["--stack", stack or self.stack, *where, *words])
        printed = self.capsys.readouterr()
        return code, printed.out + printed.err


@contextmanager
def doors(*, worker_status: int = 200) -> Iterator[str]:
    """The address of a stack that answers to a look at its health, and so to a machine that asks for a nonce."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200 if self.path == "/api/health/" else 404)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(worker_status if self.path == "/api/worker/v0/nonce/" else 404)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"message": "as told"}')

        def log_message(self, format: str, *args: Any) -> None:
            """The stories say what they need to."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def stack_with_all_parts(url: str, worker_url: str = "") -> str:
    """The name of a new stack, made as the template makes one."""
    name = f"ml-{uuid.uuid4().hex[:8]}"
    buckets = {kind: f"{name}-{kind.lower()}" for kind in ("Data", "Code", "Logs", "Audit")}
    for bucket in buckets.values():
        boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    outputs = {
        "Url": url,
        "Installation": str(uuid.uuid4()),
        "Account": "123456789012",
        "Table": _table(name),
        "SecretsPrefix": f"/lamplighter/{name}",
        **{f"{kind}Bucket": bucket for kind, bucket in buckets.items()},
        "ExecutionMachine": _state_machine(f"{name}-execution"),
        "MachineMachine": _state_machine(f"{name}-machine"),
        "LaunchTemplates": json.dumps({"cpu": _launch_template(name)}),
        "Subnets": "subnet-1,subnet-2",
        "WorkerRole": f"{name}-worker",
        "DailyBudgetUsd": "50",
        **({"WorkerUrl": worker_url} if worker_url else {}),
        "AlarmTopic": "not for us",
    }
    make_stack(name, outputs)
    return name


def _table(name: str) -> str:
    boto3.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": a, "AttributeType": "S"} for a in ("pk", "sk")],
    )
    return name


def _state_machine(name: str) -> str:
    role = "arn:aws:iam::123456789012:role/flows"
    made = boto3.client("stepfunctions").create_state_machine(name=name, definition=FLOW, roleArn=role)
    return str(made["stateMachineArn"])


def _launch_template(name: str) -> str:
    data: Any = {"ImageId": "ami-0123456789abcdef0"}
    made = boto3.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def make_stack(name: str, outputs: dict[str, str]) -> None:
    """A stack that tells these outputs."""
    template = {
        "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
        "Outputs": {key: {"Value": value} for key, value in outputs.items()},
    }
    boto3.client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))
