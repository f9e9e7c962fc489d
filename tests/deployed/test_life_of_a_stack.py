"""A stack's own life: made, used, changed without losing anything, deleted with nothing left; and all of that once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deployed.deployment import Deployment, deployed
from tests.e2e.api import until
from tests.e2e.vh import VhHome
from tests.emulators.ministack import Ministack

NAME = "twice"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("time", ["the first time", "the second time"])
def test_a_changed_stack_keeps_its_data_and_a_deleted_one_leaves_nothing(
    time: str, aws: Ministack, bridge: str, tmp_path: Path, tells: Any
) -> None:
    before = _everything(aws)
    with deployed(NAME, aws, bridge, tmp_path / "stack") as there:
        tells(there.tell)
        there.begin()
        vh = VhHome(there.api(), tmp_path / "home").log_in()
        first = vh.ended(vh.run("train"), seconds=180)
        kept = vh.output(first, "seen.json")
        installation = there.stack.outputs["Installation"]

        _change(there)

        assert there.stack.outputs["Installation"] == installation
        assert vh.output(vh.execution(1), "seen.json") == kept
        second = vh.ended(vh.run("train"), seconds=180)
        assert (second["counter"], second["status"]) == (2, "complete")
        until(lambda: not there.alive(), "every instance is terminated", seconds=120)

        there.stack.destroy()

    assert _everything(aws) == before


def _change(there: Deployment) -> None:
    """Another version of the template, with another limit."""
    template = there.stack.folder / "template.yaml"
    text = template.read_text()
    assert text.count("Timeout: 29") >= 1
    template.write_text(text.replace("Timeout: 29", "Timeout: 28"))
    there.stack.deploy(**there.parameters, MaxMachines="3")
    assert there.stack.outputs["MaxMachines"] == "3"


def _everything(aws: Ministack) -> dict[str, list[str]]:
    """What an account can be billed for, or hold of ours, by kind; without what sam keeps for all stacks of an account."""

    def names(service: str, call: str, many: str, name: str | None, **how: Any) -> list[str]:
        found = getattr(aws.client(service), call)(**how)[many]
        return sorted(str(one[name]) if name else str(one) for one in found)

    found = {
        "stacks": [
            row["StackName"]
            for row in aws.client("cloudformation").describe_stacks()["Stacks"]
            if row["StackStatus"] != "DELETE_COMPLETE"
        ],
        "tables": names("dynamodb", "list_tables", "TableNames", None),
        "buckets": names("s3", "list_buckets", "Buckets", "Name"),
        "functions": names("lambda", "list_functions", "Functions", "FunctionName"),
        "state machines": names("stepfunctions", "list_state_machines", "stateMachines", "name"),
        "apis": names("apigatewayv2", "get_apis", "Items", "ApiId"),
        "roles": names("iam", "list_roles", "Roles", "RoleName"),
        "parameters": names("ssm", "describe_parameters", "Parameters", "Name"),
        "queues": list(aws.client("sqs").list_queues().get("QueueUrls", [])),
        "log groups": names("logs", "describe_log_groups", "logGroups", "logGroupName"),
        "launch templates": names("ec2", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
        "subnets": names("ec2", "describe_subnets", "Subnets", "SubnetId"),
        "rules": names("events", "list_rules", "Rules", "Name"),
        "schedules": names("scheduler", "list_schedules", "Schedules", "Name"),
        "alarms": names("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
        "topics": names("sns", "list_topics", "Topics", "TopicArn"),
    }
    return {kind: [name for name in rows if "aws-sam-cli" not in name] for kind, rows in found.items()}
