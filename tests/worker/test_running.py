"""What the agent does with a step, from lease to end, without containers."""

from __future__ import annotations

import json

import pytest

from lamplighter.contract.job import Call, Input, InputFile, Limits
from tests.worker.control_double import Control
from tests.worker.harness import Agent


def test_a_step_runs_in_its_repository_and_its_end_is_told(control: Control, agent: Agent) -> None:
    execution = control.offer("cat main.txt && echo oops >&2")
    control.drain = True

    agent.start()

    agent.until_finished(execution)
    assert agent.wait() == 0
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("complete", 0)
    assert execution.stdout == ["main"]
    assert execution.stderr == ["oops"]
    assert execution.started is not None
    assert execution.started.runtime == "process"
    assert control.farewells == ["drained"]
    assert any(
        line.startswith("No container: on this machine steps run as plain processes") for line in execution.status
    )


def test_a_failing_step_is_an_error_with_its_exit_code_and_its_outputs(control: Control, agent: Agent) -> None:
    execution = control.offer('echo kept > "$VH_OUTPUTS_DIR/model.txt"; exit 3')
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("error", 3)
    assert execution.finish.reason == "exit code 3"
    [output_id] = execution.finish.outputs
    assert execution.outputs[output_id].name == "model.txt"
    assert control.objects[f"/objects/{execution.job.execution_id}/{output_id}"] == b"kept\n"


@pytest.mark.parametrize("mode", ["644", "444"])
def test_an_output_that_no_store_takes_ends_the_run_as_an_error_that_names_it_and_costs_no_other(
    mode: str, control: Control, agent: Agent
) -> None:
    control.too_large = {"model.ckpt"}
    execution = control.offer(
        'cd "$VH_OUTPUTS_DIR"; echo 7 > model.ckpt; echo kept > small.txt; ' + f"chmod {mode} model.ckpt; sleep 1"
    )
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("error", 0)
    assert execution.finish.reason == "too large to be stored: model.ckpt: at most 5 GiB"
    assert [execution.outputs[output_id].name for output_id in execution.finish.outputs] == ["small.txt"]
    assert "model.ckpt was not accepted as an output: at most 5 GiB" in execution.status


def test_more_inputs_than_can_be_listed_end_the_run_as_an_error(control: Control, agent: Agent) -> None:
    control.carries_no = {"inputs"}
    execution = control.offer("true")
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert execution.finish.outcome == "error"
    assert "more input files than can be listed" in execution.finish.reason
    assert control.seen["inputs"] == 1


@pytest.mark.parametrize(("code", "reason"), [(0, ""), (3, "exit code 3; ")])
def test_metadata_that_are_too_large_for_the_end_cost_neither_the_end_nor_the_outputs(
    code: int, reason: str, control: Control, agent: Agent
) -> None:
    control.carries_no = {"metadata"}
    describe = """cd "$VH_OUTPUTS_DIR"; echo 7 > model.txt; echo '{"a": 1}' > model.txt.metadata.json"""
    execution = control.offer(f"{describe}; exit {code}")
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("error", code)
    assert execution.finish.reason.startswith(f"{reason}the metadata of 1 outputs are too large to be told at the end")
    assert [execution.outputs[output_id].name for output_id in execution.finish.outputs] == ["model.txt"]
    assert control.seen["finish"] == 2


def test_ten_thousand_equal_lines_come_back_ten_thousand_times(control: Control, agent: Agent) -> None:
    execution = control.offer("i=0; while [ $i -lt 10000 ]; do echo same; i=$((i+1)); done")
    agent.start()

    agent.until_finished(execution)

    assert execution.stdout == ["same"] * 10_000
    assert len({at for at, _, _ in execution.lines}) == len(execution.lines)


def test_a_step_sees_its_own_environment_and_nothing_of_the_agents(control: Control, agent: Agent) -> None:
    execution = control.offer("env; pwd", environment={"LR": "0.1", "VALOHAI_PORT": "1", "TWO": "a\nb"})
    agent.start()

    agent.until_finished(execution)

    run = agent.directory / "runs" / f"{execution.job.execution_id}-1.1"
    assert f"VH_JOB_ID=exec-{execution.job.execution_id}" in execution.stdout
    assert f"VH_CONFIG_DIR={run}/config" in execution.stdout
    assert {"LR=0.1", "PYTHONUNBUFFERED=1", "TWO=a", f"{run}/repository"} <= set(execution.stdout)
    assert not any("must-not-be-seen" in line or "VALOHAI_PORT" in line for line in execution.stdout)


def test_inputs_and_config_files_are_there_before_the_step_starts(control: Control, agent: Agent) -> None:
    control.objects["/objects/cat.jpg"] = b"meow"
    file = InputFile("cat.jpg", "cat.jpg", "datum://cat", Call(f"{control.url}/objects/cat.jpg"), size=4)
    execution = control.offer(
        'cat "$VH_INPUTS_DIR/images/cat.jpg"; echo; tr -d "\\n" < "$VH_CONFIG_DIR/inputs.json"; echo; ls "$VH_CONFIG_DIR"',
        inputs=(Input("images", "id-1", (file,)),),
    )
    agent.start()

    agent.until_finished(execution)

    content, inputs, *names = execution.stdout
    assert content == "meow"
    [described] = json.loads(inputs)["images"]["files"]
    assert described["path"].endswith(f"runs/{execution.job.execution_id}-1.1/inputs/images/cat.jpg")
    assert set(names) >= {
        "parameters.json",
        "parameters.yaml",
        "inputs.json",
        "execution.json",
        "runtime.json",
        "api.json",
    }


def test_an_input_that_cannot_be_had_is_an_error_that_names_it(control: Control, agent: Agent) -> None:
    file = InputFile("gone.bin", "gone.bin", "datum://gone", Call(f"{control.url}/objects/gone"))
    execution = control.offer("echo never", inputs=(Input("data", "id-1", (file,)),))
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert execution.finish.outcome == "error"
    assert "input data, file gone.bin" in execution.finish.reason
    assert any("gone.bin" in line for line in execution.status)
    assert execution.stdout == []
    assert execution.started is None


def test_the_time_limit_ends_a_step_as_an_error(control: Control, agent: Agent) -> None:
    execution = control.offer("sleep 600", limits=Limits(time_limit=1, stop_grace=2))
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.reason) == ("error", "time limit of 1 s reached")


def test_a_step_that_is_silent_for_too_long_is_ended(control: Control, agent: Agent) -> None:
    execution = control.offer("echo one; sleep 600", limits=Limits(no_output_timeout=1, stop_grace=2))
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.reason) == ("error", "no output for 1 s")
    assert execution.stdout == ["one"]


def test_metadata_are_objects_on_stdout_and_may_fulfil_the_stop_condition(control: Control, agent: Agent) -> None:
    script = (
        """echo '{"accuracy": 0.5}'; echo '[1]'; echo '{"x": 1}' >&2; sleep 1; echo '{"accuracy": 0.95}'; sleep 600"""
    )
    execution = control.offer(script, stop_condition="accuracy > 0.9")
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert execution.finish.outcome == "stopped"
    assert execution.finish.reason == "stop condition met: accuracy > 0.9"
    assert [point for _, point in execution.metadata] == [{"accuracy": 0.5}, {"accuracy": 0.95}]
    assert [execution.lines[seq][2] for seq, _ in execution.metadata] == ['{"accuracy": 0.5}', '{"accuracy": 0.95}']


def test_a_stop_interrupts_first_and_leaves_time_to_write_results(control: Control, agent: Agent) -> None:
    script = """trap 'echo interrupted; echo saved > "$VH_OUTPUTS_DIR/last.ckpt"; exit 0' INT
echo ready
while :; do sleep 0.1; done"""
    execution = control.offer(script)
    agent.start()
    agent.until(lambda: "ready" in execution.stdout, "the step to run")

    execution.stop = "user"

    agent.until_finished(execution)
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("stopped", 0)
    assert execution.stdout == ["ready", "interrupted"]
    assert [output.name for output in execution.outputs.values()] == ["last.ckpt"]


def test_a_step_that_ignores_every_signal_is_killed_after_the_grace(control: Control, agent: Agent) -> None:
    script = (
        "trap '' INT TERM; (trap '' INT TERM; while :; do sleep 0.1; done) & echo ready; while :; do sleep 0.1; done"
    )
    execution = control.offer(script, limits=Limits(stop_grace=1))
    agent.start()
    agent.until(lambda: "ready" in execution.stdout, "the step to run")

    execution.stop = "user"

    agent.until_finished(execution)
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("stopped", 137)


def test_a_stop_before_the_step_runs_means_it_never_runs(control: Control, agent: Agent) -> None:
    execution = control.offer("echo never")
    execution.stop = "user"
    control.on["inputs"] = lambda: agent.until(lambda: control.seen["heartbeat"] > 1, "a heartbeat")

    agent.start()

    agent.until_finished(execution)
    assert execution.finish is not None
    assert execution.finish.outcome == "stopped"
    assert execution.stdout == []


def test_secrets_never_reach_the_log(control: Control, agent: Agent) -> None:
    script = 'echo "key $KEY"; printf %s "$KEY" | base64; echo \'{"leak": "\'$KEY\'"}\''
    execution = control.offer(script, environment={"KEY": "hunter2-secret"}, secrets=("hunter2-secret",))
    agent.start()

    agent.until_finished(execution)

    assert execution.stdout[0] == "key ****"
    assert "hunter2-secret" not in repr(execution.lines) + repr(execution.metadata)
    assert execution.metadata[0][1] == {"leak": "****"}


def test_a_machine_that_is_shut_down_tells_that_the_run_was_interrupted(control: Control, agent: Agent) -> None:
    execution = control.offer("trap 'exit 0' INT; echo ready; while :; do sleep 0.1; done")
    agent.start()
    agent.until(lambda: "ready" in execution.stdout, "the step to run")

    assert agent.terminate() == 0

    assert execution.finish is not None
    assert execution.finish.outcome == "interrupted"
    assert control.farewells == ["shutdown"]


def test_several_executions_run_one_after_another(control: Control, agent: Agent) -> None:
    executions = [control.offer(f"echo {number}") for number in range(3)]
    control.drain = True

    agent.start()

    assert agent.wait() == 0
    assert [e.stdout for e in executions] == [["0"], ["1"], ["2"]]
    assert list((agent.directory / "runs").iterdir()) == []
