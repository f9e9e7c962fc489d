"""`lamplighter --stack NAME doctor`: it says that steps can run only where they can."""

from __future__ import annotations

import dataclasses
import socket

import boto3
import pytest

from functions.aws.settings import settings_of_outputs
from functions.aws.wiring import make_metadata
from lamplighter import keys
from lamplighter.domain.environments import Environment
from lamplighter.records import need
from tests.conformance.metadata_places import REGION
from tests.functions.aws.operator_shell import Shell, doors, stack_with_all_parts

CPU = ("--environment", "cpu", "--instance-type", "t3.medium", "--price", "0.05")


def findings(told: str, grade: str) -> dict[str, str]:
    return {line[9:23].strip(): line for line in told.splitlines() if line.startswith(grade)}


def test_the_doctor_finds_everything_in_its_place(shell: Shell) -> None:
    shell.run("init", *CPU)

    code, told = shell.run("doctor")

    looked_at = [line.split()[0] for line in told.splitlines()[:-1]]
    assert (code, set(looked_at)) == (0, {"ok"})
    assert told.splitlines()[-1] == "This installation can run steps."
    things = {"table", "parameters", "store data", "template cpu", "api", "worker address", "environments"}
    assert things <= findings(told, "ok").keys()
    assert "execution machine" in told


def test_that_nobody_began_is_told_once(shell: Shell) -> None:
    boto3.client("s3").delete_bucket(Bucket=f"{shell.stack}-code")

    code, told = shell.run("doctor")

    assert (code, findings(told, "missing").keys()) == (1, {"table", "store code"})
    assert told.count(f"lamplighter --stack {shell.stack} init") == 1


def test_a_lost_join_key_is_told_with_what_makes_it_anew(shell: Shell) -> None:
    shell.run("init", *CPU)
    ssm = boto3.client("ssm")
    kept = ssm.get_parameters_by_path(Path=f"/lamplighter/{shell.stack}", Recursive=True)["Parameters"]
    ssm.delete_parameters(Names=[parameter["Name"] for parameter in kept])

    told = shell.run("doctor")[1]

    assert f"lamplighter --stack {shell.stack} init" in findings(told, "missing")["parameters"]
    shell.run("init")
    assert shell.run("doctor")[0] == 0


def test_without_an_environment_nothing_can_run(shell: Shell) -> None:
    shell.run("init")

    code, told = shell.run("doctor")

    assert (code, findings(told, "missing").keys()) == (1, {"environments"})
    assert f"lamplighter --stack {shell.stack} environment add NAME" in told


def test_an_environment_that_cannot_be_launched_is_named_with_the_reason(shell: Shell) -> None:
    shell.run("init", *CPU)
    _spoil(shell)

    code, told = shell.run("doctor")

    assert (code, told.count("missing  ")) == (1, 1)
    assert "missing  environment cpu option purchase of the environment is 'cheap'" in told
    assert f"lamplighter --stack {shell.stack} environment set cpu" in told


def test_addresses_that_do_not_answer_well_are_told_with_what_came_back(
    aws: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with doors(worker_status=502) as worker:
        shell = Shell(stack_with_all_parts(closed, worker), closed, capsys)
        shell.run("init", *CPU)
        code, told = shell.run("doctor")

    missing = findings(told, "missing")
    assert (code, missing.keys()) == (1, {"api", "worker address"})
    assert f"GET {closed}/api/health/ got no answer" in missing["api"]
    assert f'POST {worker}/api/worker/v0/nonce/ answered 502: {{"message": "as told"}}' in missing["worker address"]


def _spoil(shell: Shell) -> None:
    """As an environment from before options were checked."""
    outputs = boto3.client("cloudformation").describe_stacks(StackName=shell.stack)["Stacks"][0]["Outputs"]
    metadata = make_metadata(settings_of_outputs({o["OutputKey"]: o["OutputValue"] for o in outputs}, REGION))
    slug = metadata.get(keys.environment_slug("cpu"))
    assert slug
    key = keys.environment(str(slug.value["environment_id"]))
    stored = need(metadata, Environment, key, "the environment")
    options = {**stored.value.options, "purchase": "cheap"}
    metadata.transact([stored.becomes(dataclasses.replace(stored.value, options=options))])
