"""`valohai.yaml`, read and merged with a request: what runs, on which inputs, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.blueprints.valohai import ValohaiBlueprints
from lamplighter.ports import StepInput, StepPlan
from tests.unit.blueprint_steps import BLUEPRINTS, faults, plan, step

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


def test_every_fault_of_a_request_is_told_at_once() -> None:
    config = step(parameters=[{"name": "a"}, {"name": "b", "type": "integer"}], inputs=[{"name": "i"}])

    fields = faults(
        lambda: plan(config, {"b": "x"}, {"i": ["nope"]}, image="-x", environment_variables={"1": "a"}),
    )

    assert set(fields) == {"parameters.a", "parameters.b", "inputs.i", "image", "environment_variables"}


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
