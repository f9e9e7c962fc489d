"""Steps in containers: what they see, how they end, and that nothing is left of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamplighter.contract.job import Limits
from tests.docker import IMAGE, ensure_docker
from tests.worker.control_double import Control, Execution
from tests.worker.harness import Agent
from tests.worker.test_faults import SCRIPT, assert_told_once


@pytest.fixture
def agent(new_agent: Callable[..., Agent], control: Control) -> Iterator[Agent]:
    """An agent with a container engine; what it leaves is removed."""
    ensure_docker()
    made = new_agent("docker")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()
    for name in containers(made):
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def containers(agent: Agent) -> list[str]:
    command = ["docker", "ps", "--all", "--format", "{{.Names}}", "--filter"]
    return subprocess.run(
        [*command, f"label=lamplighter.machine={agent.machine_id}"], capture_output=True, text=True, check=True
    ).stdout.split()


def name_of(execution: Execution) -> str:
    return f"lamplighter-{execution.job.execution_id}-{execution.job.epoch}"


def test_a_step_runs_in_a_container_with_the_directories_it_knows(control: Control, agent: Agent) -> None:
    script = """pwd; cat main.txt; echo; ls /valohai; env; tr -d '\\n' < /valohai/config/parameters.json
echo; echo r > /valohai/outputs/r"""
    execution = control.offer(script, environment={"A": "1 2", "KEY": "line 1\nline 2", "VALOHAI_PORT": "1"})
    control.drain = True

    agent.start()

    assert agent.wait() == 0
    assert execution.finish is not None
    assert execution.finish.outcome == "complete", execution.finish
    assert execution.stdout[:2] == ["/valohai/repository", "main"]
    assert {"config", "inputs", "outputs", "repository", "A=1 2", "KEY=line 1", "line 2"} <= set(execution.stdout)
    assert {"VH_OUTPUTS_DIR=/valohai/outputs", "PYTHONUNBUFFERED=1"} <= set(execution.stdout)
    assert not any("VALOHAI_PORT" in line or "must-not-be-seen" in line for line in execution.stdout)
    assert json.loads(execution.stdout[-1]) == {"lr": 0.5}
    assert execution.started is not None
    assert execution.started.image_digest.startswith("sha256:")
    assert [output.name for output in execution.outputs.values()] == ["r"]
    assert containers(agent) == []
    assert control.faults == []


def test_ten_thousand_equal_lines_survive_the_container(control: Control, agent: Agent) -> None:
    execution = control.offer("i=0; while [ $i -lt 10000 ]; do echo same; i=$((i+1)); done; echo last >&2; exit 4")
    agent.start()

    agent.until_finished(execution)

    assert execution.stdout == ["same"] * 10_000
    assert execution.stderr == ["last"]
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("error", 4)


def engine_notices_the_killer() -> bool:
    """Whether this engine says that the kernel has killed a container at its limit: not every one does."""
    run = ["docker", "run", "--memory", "32m", "--name", "lamplighter-oom", IMAGE, "tail", "/dev/zero"]
    look = ["docker", "inspect", "--format", "{{.State.OOMKilled}}", "lamplighter-oom"]
    try:
        subprocess.run(run, capture_output=True, timeout=60, check=False)
        return subprocess.run(look, capture_output=True, text=True, timeout=60, check=True).stdout.strip() == "true"
    finally:
        subprocess.run(["docker", "rm", "--force", "lamplighter-oom"], capture_output=True, timeout=60, check=False)


def test_a_container_that_needs_too_much_memory_is_said_to(control: Control, agent: Agent) -> None:
    execution = control.offer("tail /dev/zero", limits=Limits(memory_mib=32))
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    because = "killed: out of memory" if engine_notices_the_killer() else "killed, most likely out of memory"
    assert (execution.finish.outcome, execution.finish.reason) == ("error", f"{because} (limit 32 MiB)")


def test_a_container_is_interrupted_before_it_is_killed(control: Control, agent: Agent) -> None:
    script = "sh -c 'trap \"echo saved > /valohai/outputs/last; exit 0\" INT; echo ready; while :; do sleep 0.1; done'"
    execution = control.offer(script, limits=Limits(stop_grace=4))
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")

    execution.stop = "user"

    agent.until_finished(execution)
    assert execution.finish is not None
    assert execution.finish.outcome == "stopped"
    assert [output.name for output in execution.outputs.values()] == ["last"]


def test_a_container_that_ignores_signals_is_killed(control: Control, agent: Agent) -> None:
    execution = control.offer("trap '' INT TERM; echo ready; while :; do sleep 1; done", limits=Limits(stop_grace=1))
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")

    execution.stop = "user"

    agent.until_finished(execution)
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.exit_code) == ("stopped", 137)


@pytest.mark.parametrize("kind", ["lease", "inputs", "started", "heartbeat", "events", "finish"])
def test_an_agent_killed_while_it_speaks_adopts_its_container(kind: str, control: Control, agent: Agent) -> None:
    killed = threading.Event()
    execution = control.offer(SCRIPT)
    control.on[kind] = lambda: (agent.kill(), killed.set())  # type: ignore[func-returns-value]
    agent.start()
    assert killed.wait(60)

    control.drain = True
    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)
    assert containers(agent) == []


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_an_agent_killed_around_the_start_starts_the_container_once(
    moment: float, control: Control, agent: Agent
) -> None:
    prepared = threading.Event()
    execution = control.offer(SCRIPT)
    control.on["inputs"] = prepared.set
    agent.start()
    assert prepared.wait(60)
    time.sleep(moment)
    agent.kill()

    control.drain = True
    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)


def test_a_container_that_ended_while_no_agent_lived_is_told_by_the_next(control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)
    agent.start()
    agent.until(lambda: len(execution.stdout) > 3, "some lines")
    agent.kill()
    subprocess.run(["docker", "wait", name_of(execution)], check=True, capture_output=True)

    control.drain = True
    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)


def test_a_stale_epoch_kills_the_container(control: Control, agent: Agent) -> None:
    execution = control.offer("while :; do echo tick; sleep 0.1; done")
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")

    control.fence(execution)

    agent.until(lambda: containers(agent) == [], "the container to be removed")
    assert execution.finish is None


def test_a_container_that_nobody_knows_of_is_removed_at_the_start(control: Control, agent: Agent) -> None:
    execution = control.offer("sleep 600; echo never")
    agent.start()
    agent.until(lambda: execution.started is not None, "the step to run")
    agent.kill()
    for path in (agent.directory / "runs").glob("*/state.json"):
        path.unlink()
    control.fence(execution)

    agent.start()

    agent.until(lambda: containers(agent) == [], "the container to be removed")


def test_an_image_that_cannot_be_had_is_an_error_in_the_registrys_words(control: Control, agent: Agent) -> None:
    execution = control.offer("true", image="127.0.0.1:9/no/such:image")
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert execution.finish.outcome == "error"
    assert execution.finish.reason.startswith("Image 127.0.0.1:9/no/such:image could not be pulled: ")
    assert "Pulling image 127.0.0.1:9/no/such:image" in execution.status


def test_an_image_that_is_here_is_used_when_a_fresh_one_cannot_be_had(control: Control, agent: Agent) -> None:
    image = "127.0.0.1:9/local:1"
    subprocess.run(["docker", "tag", "lamplighter-test-busybox:1", image], check=True)
    execution = control.offer("echo here", image=image, environment={"VH_NO_IMAGE_CACHE": "yes"})
    agent.start()

    agent.until_finished(execution)

    assert execution.stdout == ["here"]
    assert any("The one on this machine is used" in line for line in execution.status)


def test_an_image_name_is_never_read_as_an_option(control: Control, agent: Agent) -> None:
    execution = control.offer("true", image="--privileged")
    agent.start()

    agent.until_finished(execution)

    assert execution.finish is not None
    assert execution.finish.outcome == "error"
    assert "is no image name" in execution.finish.reason


def test_a_container_reaches_its_own_calls_on_a_loopback_control_plane(control: Control, agent: Agent) -> None:
    script = """url=$(sed -n 's/.*"url": "\\(.*status-detail[^"]*\\)".*/\\1/p' /valohai/config/api.json)
wget -q -O - --header 'Content-Type: application/json' --post-data '{"status_detail": "from inside"}' "$url"; echo
inputs=$(sed -n 's/.*"url": "\\(.*inputs[^"]*\\)".*/\\1/p' /valohai/config/api.json)
late=$(wget -q -O - "$inputs?inputs=i" | sed -n 's/.*"url": "\\([^"]*\\)".*/\\1/p'); wget -q -O - "$late"; echo
base=${url%%/api/*}; wget -q -O - --post-data '{}' "$base/api/worker/v0/lease/" || echo refused"""
    execution = control.offer(script)
    control.objects[f"/objects/{execution.job.execution_id}/late"] = b"late bytes"
    agent.start()

    agent.until_finished(execution)

    assert execution.status_detail == ["from inside"]
    assert execution.stdout == ["{}", "late bytes", "refused"]


def test_a_container_has_no_capability_and_sees_nothing_of_the_machine(control: Control, agent: Agent) -> None:
    execution = control.offer(
        "grep -E 'CapEff|NoNewPrivs' /proc/self/status; mount | grep -c /valohai; ls /var/run/docker.sock; true"
    )
    agent.start()

    agent.until_finished(execution)

    assert execution.stdout == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "4"]


def test_what_runs_in_the_container_is_not_in_its_environment_file_afterwards(control: Control, agent: Agent) -> None:
    execution = control.offer("echo ready; sleep 600", environment={"KEY": "s3cr3t"})
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")

    run = Path(agent.directory / "runs" / f"{execution.job.execution_id}-1.1")

    assert not (run / "environment").exists()
    execution.stop = "user"
    agent.until_finished(execution)


def test_a_run_outlives_the_command_that_copies_its_output(control: Control, agent: Agent) -> None:
    execution = control.offer("echo first; sleep 2; echo last")
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[:2] == [b"docker", b"start"] and name_of(execution).encode() in words:
                    os.kill(int(entry.name), signal.SIGKILL)

    agent.until_finished(execution)

    assert execution.stdout == ["first", "last"]
    assert execution.finish is not None
    assert execution.finish.outcome == "complete"
