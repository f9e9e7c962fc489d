"""`lamplighter --stack NAME environment`: what a stack could never launch is not taken on offer."""

from __future__ import annotations

import pytest

from tests.functions.aws.operator_shell import Shell

TYPES = 'options.instance_types=["t3.medium"]'

_FAULTS = {
    ('options.instance_typs=["t3.medium"]',): "option instance_typs",
    (TYPES, "options.purchase=cheap"): "Give one of on_demand, spot, spot_then_on_demand",
    ("options.instance_types=t3.medium",): "Give a list of 1 to 20 instance types",
    (TYPES, "options.launch_template=nope"): "Give one of cpu",
    (TYPES, "options.max_price_usd_per_hour=abc"): "a positive number below 10000",
    (TYPES, 'options.subnets=["subnet-9"]'): "it is not a subnet of this installation",
    (TYPES, "gpu_spec=1 x T4"): "update the stack with GpuWorkerImageId",
    ("max_machines=4",): "option instance_types of the environment is not given",
}


def offers(shell: Shell) -> list[str]:
    return [line.split()[0] for line in shell.run("environment", "list")[1].splitlines()[1:]]


def test_an_environment_that_no_machine_could_be_launched_of_is_refused_when_it_is_added(shell: Shell) -> None:
    shell.run("init")

    answers = {fields: shell.run("environment", "add", "cpu", *fields) for fields in _FAULTS}

    assert {fields: code for fields, (code, _) in answers.items()} == dict.fromkeys(_FAULTS, 1)
    assert [text for fields, (_, text) in answers.items() if _FAULTS[fields] not in text] == []
    assert offers(shell) == []


def test_a_change_to_what_no_machine_could_be_launched_of_is_refused(shell: Shell) -> None:
    shell.run("init", "--environment", "cpu", "--instance-type", "t3.medium")
    before = shell.run("environment", "list")

    code, told = shell.run("environment", "set", "cpu", "options.purchase=cheap")

    assert (code, "option purchase" in told) == (1, True)
    assert shell.run("environment", "list") == before


def test_init_makes_nothing_when_its_environment_could_never_be_launched(shell: Shell) -> None:
    code, told = shell.run("init", "--environment", "cpu", "--instance-type", "t3,medium")

    assert (code, "option instance_types" in told) == (1, True)
    assert "Password  " in shell.run("init")[1]


def test_a_second_init_makes_the_environment_that_the_first_was_not_told(shell: Shell) -> None:
    shell.run("init")
    words = ("init", "--environment", "cpu", "--instance-type", "t3.medium")

    added = shell.run(*words)
    again = shell.run(*words)

    assert (added[0], "the environment cpu was added" in added[1]) == (0, True)
    assert offers(shell) == ["cpu"]
    assert "nothing was changed" in again[1]
    command = f"lamplighter --stack {shell.stack} "
    commands = ("environment set cpu", "environment add NAME", "user password admin")
    assert [words for words in commands if command + words not in again[1]] == []


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("per_hour_price_usd=cheap", "per_hour_price_usd: This must be an amount such as 0.05"),
        ("max_machines=many", "max_machines: This must be a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_words_for_people(shell: Shell, field: str, told: str) -> None:
    shell.run("init")

    assert told in shell.run("environment", "add", "cpu", TYPES, field)[1]


@pytest.mark.parametrize("change", ["options.purchase=null", "options.image_id=null"])
def test_null_removes_an_option(shell: Shell, change: str) -> None:
    shell.run("init", "--environment", "cpu", "--instance-type", "t3.medium", "--purchase", "on_demand")

    code, _ = shell.run("environment", "set", "cpu", change)

    listed = shell.run("environment", "list")[1]
    assert code == 0
    assert "image_id" not in listed
    assert ("on_demand" in listed) is (change != "options.purchase=null")
