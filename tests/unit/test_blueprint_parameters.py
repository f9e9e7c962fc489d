"""The parameters of a step: which values they take, and how these come to stand in its command."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.blueprint_steps import faults, plan, step, with_parameters

# --- Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "typed"),
    [
        ("string", "a", "a"),
        ("string", 5, "5"),
        ("string", 0.5, "0.5"),
        ("string", True, "true"),
        ("string", "", ""),
        ("integer", 5, 5),
        ("integer", "5", 5),
        ("integer", 5.0, 5),
        ("integer", "-7", -7),
        ("float", 1, 1.0),
        ("float", "1", 1.0),
        ("float", "1e-3", 0.001),
        ("float", 0.25, 0.25),
        ("flag", True, True),
        ("flag", False, False),
        ("flag", "true", True),
        ("flag", "False", False),
    ],
)
def test_values_are_cast_to_the_declared_type(kind: str, given: Any, typed: Any) -> None:
    planned = plan(with_parameters({"name": "p", "type": kind}), {"p": given})

    assert planned.parameters == {"p": typed}
    assert type(planned.parameters["p"]) is type(typed)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("integer", "five"),
        ("integer", ""),
        ("integer", 1.5),
        ("integer", True),
        ("integer", 2**63),
        ("integer", "9" * 5000),
        ("float", "many"),
        ("float", "nan"),
        ("float", float("inf")),
        ("float", False),
        ("flag", "maybe"),
        ("flag", 1),
        ("string", ["a"]),
        ("string", {"a": 1}),
        ("string", "a\0b"),
        ("string", "\ud800"),
        ("string", "x" * 40_000),
    ],
)
def test_a_value_that_does_not_fit_is_refused_under_its_name(kind: str, given: Any) -> None:
    fields = faults(lambda: plan(with_parameters({"name": "p", "type": kind}), {"p": given}))

    assert set(fields) == {"parameters.p"}
    assert all(len(message) < 500 for message in fields["parameters.p"])


def test_a_missing_value_and_null_take_the_default() -> None:
    config = with_parameters(
        {"name": "lr", "type": "float", "default": 1}, {"name": "n", "type": "integer", "default": 3}
    )

    planned = plan(config, {"lr": None})

    assert planned.parameters == {"lr": 1.0, "n": 3}
    assert planned.script == "run --lr=1.0 --n=3"


def test_a_required_parameter_without_value_is_refused() -> None:
    fields = faults(
        lambda: plan(with_parameters({"name": "lr", "type": "float"}, {"name": "ok", "optional": True}), {"lr": None})
    )

    assert set(fields) == {"parameters.lr"}
    assert "needs a value" in fields["parameters.lr"][0]


def test_an_optional_parameter_without_value_is_null_in_the_file_and_absent_on_the_command_line() -> None:
    planned = plan(with_parameters({"name": "label", "optional": True}, {"name": "x", "default": "1"}))

    assert planned.parameters == {"label": None, "x": "1"}
    assert planned.script == "run --x=1"


def test_limits_and_choices_are_enforced() -> None:
    config = with_parameters(
        {"name": "n", "type": "integer", "min": 1, "max": 3, "default": 2},
        {"name": "c", "choices": ["a", 5], "default": "a"},
    )

    assert plan(config, {"c": 5}).parameters["c"] == "5"
    assert "less than the minimum" in faults(lambda: plan(config, {"n": 0}))["parameters.n"][0]
    assert "greater than the maximum" in faults(lambda: plan(config, {"n": "4"}))["parameters.n"][0]
    assert "not among the choices" in faults(lambda: plan(config, {"c": "b"}))["parameters.c"][0]


def test_a_list_parameter_takes_lists_and_single_values_and_is_empty_when_unset() -> None:
    config = with_parameters(
        {"name": "a", "multiple": "repeat", "type": "integer"},
        {"name": "b", "multiple": "separate", "default": "x"},
        {"name": "c", "multiple": "repeat", "optional": True},
    )

    planned = plan(config, {"a": ["1", 2]})

    assert planned.parameters == {"a": [1, 2], "b": ["x"], "c": []}
    assert planned.script == "run --a=1 --a=2 --b=x"


def test_a_stated_empty_default_is_a_default() -> None:
    config = with_parameters({"name": "a", "multiple": "repeat", "default": []})

    assert plan(config).parameters == {"a": []}


def test_an_unknown_parameter_is_kept_as_text_and_can_be_used() -> None:
    planned = plan(step(command="echo {parameter-value:extra} {parameters}"), {"extra": 5, "gone": None})

    assert planned.parameters == {"extra": "5"}
    assert planned.script == "echo 5"


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 129])
def test_a_parameter_name_that_is_none_is_refused(name: str) -> None:
    assert "parameters" in faults(lambda: plan(step(), {name: "x"}))


# --- Placeholders and pass-as ---------------------------------------------------------------------------------------

TWO = ({"name": "lr", "type": "float", "default": 0.5}, {"name": "label", "default": "it's"})


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("run {parameters}", "run --lr=0.5 '--label=it'\"'\"'s'"),
        ("run {params}", "run --lr=0.5 '--label=it'\"'\"'s'"),
        ("run {parameter:lr}", "run --lr=0.5"),
        ("run {parameter:nope}", "run {parameter:nope}"),
        ("run {parameter-value:lr}", "run 0.5"),
        ("run {parameter-value:label}", "run 'it'\"'\"'s'"),
        ("run {parameter-value:nope}", "run {parameter-value:nope}"),
        ("cd {source-path}", "cd 'my src'"),
        ("echo ${HOME} {} {x} {{lr}} | awk '{print $1}'", "echo ${HOME} {} {x} {{lr}} | awk '{print $1}'"),
        ("run", "run"),
        (["export A=1", " echo $A ", ""], "export A=1 && echo $A"),
        ("#!/bin/bash\nset -e\nrun", "#!/bin/bash\nset -e\nrun"),
        (["#!/bin/bash", "run", "stop"], "#!/bin/bash\nrun && stop"),
    ],
)
def test_placeholders_are_replaced_as_the_clients_expect(command: Any, script: str) -> None:
    assert plan(step(parameters=list(TWO), command=command, source_path="my src")).script == script


def test_a_source_path_that_is_not_set_leaves_its_placeholder() -> None:
    assert plan(step(command="cd {source-path}")).script == "cd {source-path}"


@pytest.mark.parametrize(
    ("declared", "given", "line"),
    [
        ({"name": "a"}, "x y", "run '--a=x y'"),
        ({"name": "a"}, "", "run --a="),
        ({"name": "a"}, "$(reboot)", "run '--a=$(reboot)'"),
        ({"name": "a"}, "{name}", "run '--a={name}'"),
        ({"name": "a", "pass-as": "-a {v}"}, "x y", "run -a 'x y'"),
        ({"name": "a", "pass-as": "--{name}:{value} --again {v}"}, "1", "run --a:1 --again 1"),
        ({"name": "a", "pass-as": "{{{v}}}"}, "1", "run '{1}'"),
        ({"name": "a", "type": "flag"}, True, "run --a"),
        ({"name": "a", "type": "flag"}, False, "run"),
        ({"name": "a", "type": "flag"}, None, "run"),
        ({"name": "a", "type": "flag", "default": True}, None, "run"),
        ({"name": "a", "type": "flag", "pass-as": "-x"}, True, "run -x"),
        ({"name": "a", "type": "flag", "pass-true-as": "--yes", "pass-false-as": "--no"}, True, "run --yes"),
        ({"name": "a", "type": "flag", "pass-true-as": "--yes", "pass-false-as": "--no"}, False, "run --no"),
        ({"name": "a", "type": "flag", "pass-true-as": "--yes", "pass-false-as": "--no"}, None, "run"),
        ({"name": "a", "type": "flag", "pass-false-as": "--no"}, True, "run"),
        ({"name": "a", "multiple": "repeat"}, ["x", "y z"], "run --a=x '--a=y z'"),
        ({"name": "a", "multiple": "repeat"}, [], "run"),
        ({"name": "a", "multiple": "separate"}, ["x", "y"], "run --a=x,y"),
        ({"name": "a", "multiple": "separate", "multiple-separator": "|"}, ["x", "y"], "run '--a=x|y'"),
        ({"name": "a", "multiple": "separate"}, [], "run"),
    ],
)
def test_a_parameter_is_passed_as_declared(declared: dict[str, Any], given: Any, line: str) -> None:
    assert plan(with_parameters(declared), {"a": given}).script == line


def test_a_flag_that_is_not_given_is_false_in_the_file() -> None:
    config = with_parameters({"name": "f", "type": "flag", "default": True}, command="run {parameter-value:f}")

    planned = plan(config)

    assert planned.parameters == {"f": False}
    assert planned.script == "run False"


@pytest.mark.parametrize(
    "template",
    [
        "{value.__class__}",
        "{value[0]}",
        "{0}",
        "{}",
        "{other}",
        "{value!r}",
        "{value:>100000000}",
        "{value:{v}}",
        "{",
        "}",
        "{v}" * 5,
        "x" * 257,
        "{v .x}",
    ],
)
@pytest.mark.parametrize("key", ["pass-as", "pass-true-as", "pass-false-as"])
def test_a_template_that_reaches_beyond_its_placeholders_is_refused(template: str, key: str) -> None:
    kind = "string" if key == "pass-as" else "flag"

    fields = faults(lambda: plan(with_parameters({"name": "p", "type": kind, key: template}), {"p": "true"}))

    assert key in fields["parameters.p"][0]


@pytest.mark.parametrize(("declared", "given"), [({"optional": True}, None), ({"multiple": "repeat"}, ["a"])])
def test_the_value_of_null_or_a_list_cannot_stand_in_a_command(declared: dict[str, Any], given: Any) -> None:
    config = with_parameters({"name": "p", **declared}, command="run {parameter-value:p}")

    fields = faults(lambda: plan(config, {"p": given}))

    assert set(fields) == {"command"}


@pytest.mark.parametrize(
    "command",
    [
        "{" * 90_000,
        "{parameters}" * 8000,
        "run {parameters} " * 5,
        "x" * 110_000,
        ["", " "],
        "a\0b",
        "{parameter:big}" * 7000,
    ],
)
def test_a_command_that_grows_without_measure_is_refused(command: Any) -> None:
    config = with_parameters({"name": "big"}, command="run")

    assert set(faults(lambda: plan(config, {"big": "x" * 32_000}, command=command))) == {"command"}


def test_values_that_are_too_many_or_too_long_together_are_refused() -> None:
    declared = [{"name": f"p{n}", "multiple": "repeat"} for n in range(12)]

    many = faults(lambda: plan(with_parameters(*declared), {f"p{n}": [""] * 1000 for n in range(12)}))
    too_many = faults(lambda: plan(with_parameters(*declared[:1]), {"p0": [""] * 1001}))
    long = faults(lambda: plan(with_parameters(*declared[:3]), {f"p{n}": "x" * 30_000 for n in range(3)}))

    assert set(many) == set(long) == {"parameters"}
    assert set(too_many) == {"parameters.p0"}
