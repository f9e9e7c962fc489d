"""`lamplighter --stack`: an operator begins with a stack, works on it, and is told what it lacks."""

from __future__ import annotations

import io

import boto3
import pytest

from functions.aws.settings import read_settings, settings_of_outputs
from lamplighter.errors import Unavailable
from tests.conformance.metadata_places import REGION
from tests.functions.aws.operator_shell import Shell, make_stack


def test_an_operator_begins_once_and_then_looks_after_people_and_offers(shell: Shell) -> None:
    before = shell.run("user", "list")
    begun = shell.run("init", "--environment", "cpu", "--instance-type", "t3.medium", "--purchase", "spot")
    again = shell.run("init")
    people = shell.run("user", "list")
    token = shell.run("token", "create", "admin", "--name", "ci")
    added = shell.run("environment", "add", "gpu", 'options.instance_types=["g5.xlarge"]', "max_machines=4")
    offers = shell.run("environment", "list")
    stores = shell.run("store", "list")

    assert before[0] == 1
    assert f"lamplighter --stack {shell.stack} init" in before[1]
    assert begun[0] == 0
    assert "Password  " in begun[1]
    assert f"vh login --host {shell.url} --username admin" in begun[1]
    assert again[0] == 0
    assert f"{shell.url} was begun before: nothing was changed.\n" in again[1]
    assert people[1].splitlines()[1].startswith("admin     admin  yes")
    assert (token[0], token[1].startswith("ml")) == (0, True)
    assert added == (0, "gpu is on offer: gpu, cloud ec2, at most 4 machines.\n")
    assert [line.split()[:3] for line in offers[1].splitlines()[1:]] == [["cpu", "cpu", "ec2"], ["gpu", "gpu", "ec2"]]
    assert '"instance_types": ["t3.medium"]' in offers[1]
    assert [line.split()[0] for line in stores[1].splitlines()] == ["name", "data", "code", "logs"]


def test_a_first_environment_without_a_price_is_told_to_be_beyond_the_daily_budget(shell: Shell) -> None:
    command = f"lamplighter --stack {shell.stack} environment set cpu per_hour_price_usd=0.05"

    begun = shell.run("init", "--environment", "cpu", "--instance-type", "t3.medium")
    before = shell.run("doctor")
    shell.run("environment", "set", "cpu", "per_hour_price_usd=0.05")
    after = shell.run("doctor")

    assert "the daily budget does not count the machines of cpu" in begun[1]
    assert command in begun[1]
    assert "warn     environment cpu no price: the daily budget of 50 USD does not count its machines" in before[1]
    assert command in before[1]
    assert (before[0], after[0]) == (0, 0)
    assert "environment cpu" not in after[1]


def test_the_price_of_the_first_environment_is_what_the_daily_budget_counts_with(shell: Shell) -> None:
    words = ("init", "--environment", "cpu", "--instance-type", "t3.medium", "--price")
    refused = shell.run(*words, "cheap")

    begun = shell.run(*words, "0.05")

    assert (refused[0], "per_hour_price_usd" in refused[1]) == (1, True)
    assert (begun[0], "daily budget" in begun[1]) == (0, False)
    assert "warn" not in shell.run("doctor")[1]


def test_a_store_of_ones_own_takes_outputs_alone_and_the_stacks_names_are_taken(shell: Shell) -> None:
    shell.run("init")
    bucket = f"{shell.stack}-lake"
    boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    taken = shell.run("store", "add", "logs", "--bucket", bucket)
    added = shell.run("store", "add", "lake", "--bucket", bucket, "--default")
    back = shell.run("store", "default", "data")

    assert (taken[0], "data, code, logs" in taken[1]) == (1, True)
    assert added == (0, f"lake is a store now: s3://{bucket}/, the default\n")
    assert back == (0, "Outputs: to data from now on; what lies elsewhere stays there.\n")


def test_a_password_of_ones_own_is_read_and_not_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))

    code, told = shell.run("init", "--password-stdin")

    assert code == 0
    assert "correct horse" not in told
    assert "Password" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("user", "list"), "There is no stack nowhere in eu-west-1"),
        (("init",), "There is no stack nowhere in eu-west-1"),
        (("doctor",), "--region"),
        (("up",), "without --stack"),
        (("init", "--environment", "cpu"), "--instance-type"),
        (("init", "--price", "0.05"), "--price together with --environment"),
    ],
)
def test_what_cannot_work_is_said_with_what_to_try(shell: Shell, words: tuple[str, ...], told: str) -> None:
    code, text = shell.run(*words, stack="nowhere")

    assert (code, told in text) == (1, True)
    assert "Traceback" not in text


def test_a_stack_of_something_else_is_told_apart(shell: Shell) -> None:
    make_stack(f"{shell.stack}-other", {"Queue": "q"})

    assert "is no Lamplighter" in shell.run("user", "list", stack=f"{shell.stack}-other")[1]


def test_without_credentials_the_operator_is_told_where_to_get_some(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")

    assert "There are no AWS credentials here" in shell.run("user", "list")[1]


def test_a_profile_that_does_not_exist_is_told_in_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")

    code, told = shell.run("user", "list")

    assert (code, told.count("\n")) == (1, 1)
    assert "nobodys" in told
    assert "AWS_PROFILE" in told


def test_the_region_is_that_of_either_variable_and_both_are_named_without_one(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []
    for own, other in (("AWS_REGION", "AWS_DEFAULT_REGION"), ("AWS_DEFAULT_REGION", "AWS_REGION")):
        monkeypatch.setenv(own, REGION)
        monkeypatch.delenv(other, raising=False)
        codes.append(shell.run("init", region=None)[0])
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    told = shell.run("user", "list", region=None)[1]

    assert codes == [0, 0]
    assert "--region, or set AWS_REGION or AWS_DEFAULT_REGION" in told


def test_settings_are_read_from_variables_and_outputs_alike() -> None:
    templates = '{"cpu": "lt-1"}'
    variables = {
        "AWS_REGION": "eu-west-1",
        "LAMPLIGHTER_TABLE": "t",
        "LAMPLIGHTER_URL": "https://ml.example.org/",
        "LAMPLIGHTER_LAUNCH_TEMPLATES": templates,
        "LAMPLIGHTER_SUBNETS": "a, b",
        "LAMPLIGHTER_MAX_MACHINES": "5",
        "LAMPLIGHTER_DAILY_BUDGET_USD": "12.50",
    }
    outputs = {
        "Table": "t",
        "Url": "https://ml.example.org",
        "LaunchTemplates": templates,
        "Subnets": "a,b",
        "MaxMachines": "5",
        "DailyBudgetUsd": "12.50",
        "Unknown": "x",
    }

    read = read_settings(variables)

    assert read == settings_of_outputs(outputs, "eu-west-1")
    assert (read.url, read.subnets, read.launch_templates) == ("https://ml.example.org", ("a", "b"), {"cpu": "lt-1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("LAUNCH_TEMPLATES", "{"), ("LAUNCH_TEMPLATES", "[]"), ("MAX_MACHINES", "many"), ("DAILY_BUDGET_USD", "-1")],
)
def test_a_variable_that_cannot_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(Unavailable, match=name):
        read_settings({f"LAMPLIGHTER_{name}": value})


def test_a_missing_variable_is_named_by_what_needs_it() -> None:
    with pytest.raises(Unavailable, match="LAMPLIGHTER_TABLE is not set"):
        read_settings({}).need("table")
