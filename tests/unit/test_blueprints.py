"""`valohai.yaml`, read and merged with a request: what runs, with which values, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from adapters.blueprints.valohai import ValohaiBlueprints
from lamplighter.errors import Invalid
from lamplighter.ports import StepInput, StepPlan

BLUEPRINTS = ValohaiBlueprints()


def step(**more: Any) -> list[Any]:
    body = {"name": "train", "image": "python:3.12", "command": "python train.py {parameters}"}
    body.update({key.replace("_", "-"): value for key, value in more.items()})
    return BLUEPRINTS.read(json.dumps([{"step": body}]).encode())


def plan(
    config: Sequence[Any],
    parameters: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    **more: Any,
) -> StepPlan:
    return BLUEPRINTS.plan(config, "train", parameters=parameters or {}, inputs=inputs or {}, **more)


def with_parameters(*declared: dict[str, Any], command: Any = "run {parameters}") -> list[Any]:
    return step(parameters=list(declared), command=command)


def faults(call: Any) -> dict[str, tuple[Any, ...]]:
    with pytest.raises(Invalid) as refused:
        call()
    return dict(refused.value.fields)


# --- Reading --------------------------------------------------------------------------------------------------------


def test_a_sound_file_comes_back_as_plain_values() -> None:
    text = b"- step:\n    name: train\n    image: python:3.12\n    command: python train.py\n"

    assert BLUEPRINTS.read(text) == [
        {"step": {"name": "train", "image": "python:3.12", "command": "python train.py"}},
    ]


def test_an_empty_file_has_no_items() -> None:
    assert BLUEPRINTS.read(b"") == []


def test_a_fault_names_the_step_and_the_property() -> None:
    text = (
        b"- step:\n    name: train\n    image: x\n    command: y\n    parameters:\n    - name: lr\n      type: flaot\n"
    )

    (message,) = faults(lambda: BLUEPRINTS.read(text))["yaml"]

    assert message.startswith('step "train" (item 1), property "parameters/0/type"')
    assert "flaot" in message


def test_a_missing_property_and_an_unknown_one_are_told() -> None:
    messages = faults(
        lambda: BLUEPRINTS.read(b"- step: {name: a, command: b}\n- step: {name: c, image: d, command: e, nope: 1}")
    )

    assert any("'image' is a required property" in m for m in messages["yaml"])
    assert any("'nope' was unexpected" in m for m in messages["yaml"])


def test_at_most_twenty_faults_are_told() -> None:
    text = b"- step: {name: 1}\n" * 100

    assert len(faults(lambda: BLUEPRINTS.read(text))["yaml"]) == 20


@pytest.mark.parametrize(
    "text",
    [
        b"step: {name: a}",
        b"just text",
        b"5",
        b"- 5",
        b"- step",
        b"- step: 5",
        b"- step: {name: a, image: b, command: c, time-limit: '90'}",
        b"- step: {name: a, image: b, command: c, no-output-timeout: '5 parsecs'}",
        b"- step: {name: a, image: b, command: c, time-limit: '.h'}",
        b"- step: {name: a, image: b, command: c, time-limit: 9223372036854775807}",
        b"- step: {name: a, image: b, command: c, time-limit: -5}",
        b"- step: {name: a, image: b, command: c, mounts: [nocolon]}",
        b"- step: {name: a, image: b, command: c, parameters: [{name: f, type: flag, multiple: repeat}]}",
        b"- step: {name: a, image: b, command: c, inputs: [{name: f, keep-directories: maybe}]}",
        b"- task: {name: a, step: b}",
        b"- deployment: 5",
        b"- blueprint: [1]",
        b"- pipeline: {name: a, nodes: [], edges: [[a, b]]}",
        b"- pipeline: {name: a, nodes: [{name: n, type: execution, step: s}], edges: [[n.output, x]]}",
        b"- endpoint: {name: a, image: b}",
        b"a: &a [*a]",
        b"\xff",
    ],
)
def test_whatever_the_parser_stumbles_over_is_refused_as_invalid(text: bytes) -> None:
    messages = faults(lambda: BLUEPRINTS.read(text))["yaml"]

    assert all(isinstance(message, str) and len(message) < 600 for message in messages)


def test_a_bare_number_in_quotes_as_duration_is_explained() -> None:
    (message,) = faults(lambda: step(time_limit="90"))["yaml"]

    assert 'step "train" (item 1): a duration in quotes needs a unit' in message


# --- Steps ----------------------------------------------------------------------------------------------------------


def test_an_unknown_step_is_refused_with_the_ones_that_exist() -> None:
    fields = faults(lambda: BLUEPRINTS.plan(step(), "tarin", parameters={}, inputs={}))

    assert 'its steps are: "train"' in fields["step"][0]


def test_the_later_of_two_steps_with_one_name_wins() -> None:
    config = [*step(command="first"), *step(command="second")]

    assert plan(config).script == "second"


def test_a_bare_step_has_the_defaults_of_the_contract() -> None:
    bare = plan(step(command="true"))

    assert bare == StepPlan(
        step="train",
        image="python:3.12",
        command=("true",),
        script="true",
        parameters={},
        inputs=(),
        environment=None,
        environment_variables={},
        environment_variable_groups=(),
        time_limit=None,
        no_output_timeout=None,
        stop_condition=None,
        upload_store=None,
        autorestart=False,
        mounts=(),
        resources={},
        icon=None,
    )


def test_every_setting_of_a_step_is_carried_over() -> None:
    full = plan(
        step(
            environment="gpu",
            environment_variable_groups=["shared"],
            time_limit="1h 30m 5s",
            no_output_timeout=90,
            stop_condition="accuracy > 0.9",
            upload_store="results",
            autorestart=True,
            mounts=[
                "/src:/dst",
                {"source": "/a", "destination": "/b", "readonly": True, "type": "NFS", "options": {"x": 1}},
            ],
            resources={"cpu": {"min": 1, "max": 2}, "memory": {"min": 512}, "devices": {"nvidia.com/gpu": 1}},
            icon="https://host/icon.png",
        )
    )

    assert (full.environment, full.environment_variable_groups, full.upload_store) == ("gpu", ("shared",), "results")
    assert (full.time_limit, full.no_output_timeout, full.stop_condition) == (5405, 90, "accuracy > 0.9")
    assert (full.autorestart, full.icon) == (True, "https://host/icon.png")
    assert full.mounts == (
        {"source": "/src", "destination": "/dst", "readonly": False},
        {"source": "/a", "destination": "/b", "readonly": True, "type": "nfs", "options": {"x": 1}},
    )
    assert full.resources == {"cpu": {"min": 1, "max": 2}, "memory": {"min": 512}, "devices": {"nvidia.com/gpu": 1}}


@pytest.mark.parametrize(
    ("text", "seconds"), [("10min", 600), ("1.5h", 5400), ("2d", 172800), ("1w", 604800), (90, 90), (0, 0)]
)
def test_durations_become_seconds(text: Any, seconds: int) -> None:
    assert plan(step(time_limit=text)).time_limit == seconds


def test_the_plan_holds_nothing_but_plain_values() -> None:
    planned = plan(
        step(
            mounts=["/a:/b"],
            resources={"devices": {"gpu": 1}},
            parameters=[{"name": "x", "default": [1], "multiple": "repeat"}],
        )
    )

    assert json.loads(json.dumps([planned.parameters, planned.mounts, planned.resources])) == [
        {"x": ["1"]},
        [{"source": "/a", "destination": "/b", "readonly": False}],
        {"devices": {"gpu": 1}},
    ]


def test_image_and_command_can_be_overridden() -> None:
    planned = plan(step(), image="other:1", command=["a", "b"])

    assert (planned.image, planned.command, planned.script) == ("other:1", ("a", "b"), "a && b")


@pytest.mark.parametrize("image", [" ", "-v/:/host", "a b", "a\nb", "x" * 513, "ü"])
def test_an_image_that_could_be_an_option_or_is_no_name_is_refused(image: str) -> None:
    assert "image" in faults(lambda: plan(step(), image=image))


# --- Parameters -----------------------------------------------------------------------------------------------------


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


def test_every_fault_of_a_request_is_told_at_once() -> None:
    config = step(parameters=[{"name": "a"}, {"name": "b", "type": "integer"}], inputs=[{"name": "i"}])

    fields = faults(
        lambda: plan(config, {"b": "x"}, {"i": ["nope"]}, image="-x", environment_variables={"1": "a"}),
    )

    assert set(fields) == {"parameters.a", "parameters.b", "inputs.i", "image", "environment_variables"}


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


# --- Inputs ---------------------------------------------------------------------------------------------------------


def test_inputs_take_defaults_and_requests_as_text_or_list() -> None:
    config = step(
        inputs=[
            {"name": "a", "default": "s3://b/a"},
            {"name": "b", "default": ["s3://b/1", "s3://b/2"]},
            {"name": "c", "default": "s3://b/c"},
            {"name": "d", "optional": True},
            {"name": "e", "optional": True, "default": "s3://b/e"},
        ]
    )

    planned = plan(
        config, inputs={"b": "https://host/x?y=1", "c": ["datum://1", "s3://b/my file*"], "e": [], "new": "s3://b/n"}
    )

    assert [(i.name, i.urls) for i in planned.inputs] == [
        ("a", ("s3://b/a",)),
        ("b", ("https://host/x?y=1",)),
        ("c", ("datum://1", "s3://b/my file*")),
        ("d", ()),
        ("e", ()),
        ("new", ("s3://b/n",)),
    ]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, StepInput("i", ("s3://b/k",))),
        ({"optional": True}, StepInput("i", ("s3://b/k",), optional=True)),
        ({"keep-directories": False}, StepInput("i", ("s3://b/k",), keep_directories="none")),
        ({"keep-directories": True}, StepInput("i", ("s3://b/k",), keep_directories="full")),
        ({"keep-directories": "suffix"}, StepInput("i", ("s3://b/k",), keep_directories="suffix")),
        ({"filename": "x.csv"}, StepInput("i", ("s3://b/k",), filename="x.csv")),
        ({"download": "always"}, StepInput("i", ("s3://b/k",))),
        ({"download": "on-demand"}, StepInput("i", ("s3://b/k",), on_demand=True)),
    ],
)
def test_the_settings_of_an_input_are_carried_over(declared: dict[str, Any], expected: StepInput) -> None:
    assert plan(step(inputs=[{"name": "i", "default": "s3://b/k", **declared}])).inputs == (expected,)


def test_parameter_values_are_filled_into_urls_unquoted() -> None:
    config = step(
        parameters=[{"name": "day", "default": "a b"}, {"name": "n", "type": "integer", "default": 7}],
        inputs=[{"name": "i", "default": ["s3://b/{parameter:day}/x", "s3://b/{parameter-value:n}", "s3://b/{other}"]}],
    )

    assert plan(config).inputs[0].urls == ("s3://b/a b/x", "s3://b/7", "s3://b/{other}")


def test_a_parameter_without_single_value_cannot_stand_in_a_url() -> None:
    config = step(
        parameters=[{"name": "p", "optional": True}], inputs=[{"name": "i", "default": "s3://b/{parameter:p}"}]
    )

    assert "no single value" in faults(lambda: plan(config))["inputs.i"][0]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "unknown scheme"),
        ("ftp://host/x", "unknown scheme"),
        ("/etc/passwd", "is no URL"),
        ("s3:/b/k", "is no URL"),
        ("", "is no URL"),
        ("S3://b/k", "is no URL"),
        ("https://", "is no URL"),
        ("https:///path", "names no host"),
        ("https://[::1/x", "is no URL"),
        ("https://host:99999/x", "is no URL"),
        ("s3:///key", "names nothing"),
        ("s3://b/a\nb", "control"),
        (" s3://b/k", "blanks"),
        ("s3://b/" + "x" * 4096, "longer than 4096"),
        ("dataset://digits/v1", "datasets are not supported"),
        ("model://digits/v1", "models are not supported"),
        ("gs://b/k", "no store of this kind"),
        ("azure://a/c/b", "no store of this kind"),
        ("swift://p/c/k", "no store of this kind"),
        (5, "is not text"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_with_the_reason(url: Any, reason: str) -> None:
    (message,) = faults(lambda: plan(step(), inputs={"i": [url]}))["inputs.i"]

    assert reason in message
    assert len(message) < 400


def test_an_installation_with_another_store_reads_its_scheme() -> None:
    blueprints = ValohaiBlueprints(input_schemes=frozenset({"https", "gs"}))

    planned = blueprints.plan(step(), "train", parameters={}, inputs={"i": "gs://b/k"})

    assert planned.inputs[0].urls == ("gs://b/k",)


def test_too_many_urls_or_inputs_are_refused() -> None:
    assert "at most 1000" in faults(lambda: plan(step(), inputs={"i": ["s3://b/k"] * 1001}))["inputs.i"][0]
    assert "at most 256" in faults(lambda: plan(step(), inputs={f"i{n}": "s3://b/k" for n in range(257)}))["inputs"][0]
    assert "use a wildcard" in faults(lambda: plan(step(), inputs={"i": ["s3://b/" + "x" * 900] * 400}))["inputs"][0]


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../x", "a\\b", "a\nb", "x" * 65, " a", "ü" * 33])
def test_an_input_name_that_is_no_safe_directory_is_refused(name: str) -> None:
    fields = faults(lambda: plan(step(), inputs={name: ["s3://b/k"]}))

    assert all(field.startswith("inputs") for field in fields)


def test_a_filename_that_is_a_path_is_refused() -> None:
    config = step(inputs=[{"name": "i", "default": "s3://b/k", "filename": "../x"}])

    assert "inputs.i" in faults(lambda: plan(config))


@pytest.mark.parametrize("given", [None, []])
def test_a_required_input_without_url_is_refused(given: Any) -> None:
    fields = faults(lambda: plan(step(inputs=[{"name": "i"}]), inputs={} if given is None else {"i": given}))

    assert "needs at least one URL" in fields["inputs.i"][0]


# --- Environment variables ------------------------------------------------------------------------------------------


def test_the_request_wins_over_the_step_for_environment_variables() -> None:
    config = step(environment_variables=[{"name": "A", "default": "1"}, {"name": "B", "default": "2"}, {"name": "C"}])

    planned = plan(config, environment_variables={"B": "3", "D-x": ""})

    assert planned.environment_variables == {"A": "1", "B": "3", "D-x": ""}


def test_a_required_variable_without_value_is_refused() -> None:
    config = step(environment_variables=[{"name": "KEY", "optional": False}])

    assert "needs a value" in faults(lambda: plan(config))["environment_variables"][0]
    assert plan(config, environment_variables={"KEY": "x"}).environment_variables == {"KEY": "x"}


@pytest.mark.parametrize(
    "variables",
    [
        {"1A": "x"},
        {"A=B": "x"},
        {"": "x"},
        {"A\n": "x"},
        {"A": "a\0b"},
        {"A": "x" * (32 * 1024 + 1)},
        {"A": 5},
        {f"A{n}": "x" * 32_000 for n in range(5)},
    ],
)
def test_a_variable_that_no_process_can_hold_is_refused(variables: dict[str, Any]) -> None:
    assert set(faults(lambda: plan(step(), environment_variables=variables))) == {"environment_variables"}
