"""Nothing is lost, told twice or run twice: whatever message or agent dies at whatever moment."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lamplighter.contract.job import Limits
from tests.worker.control_double import KINDS, Control, Execution
from tests.worker.harness import Agent

# Long enough to be killed in the middle, and every line differs: a line lost, doubled or out of place shows.
SCRIPT = """i=0
while [ $i -lt 60 ]; do
  echo "line $i"; echo "error $i" >&2; echo "{\\"step\\": $i}"; i=$((i+1)); sleep 0.02
done
echo result > "$VH_OUTPUTS_DIR/result.txt"
"""


def assert_told_once(execution: Execution, control: Control) -> None:
    expected = [text for i in range(60) for text in (f"line {i}", f'{{"step": {i}}}')]
    assert execution.stdout == expected
    assert execution.stderr == [f"error {i}" for i in range(60)]
    assert [execution.lines[seq][2] for seq, _ in execution.metadata] == [f'{{"step": {i}}}' for i in range(60)]
    assert execution.finish is not None
    assert execution.finish.outcome == "complete"
    assert [execution.outputs[output].name for output in execution.finish.outputs] == ["result.txt"]
    assert control.faults == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_answer_is_asked_for_again(kind: str, control: Control, agent: Agent) -> None:
    control.lose[kind] = 3
    control.drain = True
    execution = control.offer(SCRIPT)

    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)
    assert control.seen[kind] >= 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "farewell"])
def test_an_agent_killed_while_it_speaks_is_continued_by_the_next(kind: str, control: Control, agent: Agent) -> None:
    killed = threading.Event()
    execution = control.offer(SCRIPT)
    control.on[kind] = lambda: (agent.kill(), killed.set())  # type: ignore[func-returns-value]
    agent.start()
    assert killed.wait(60)

    control.drain = True
    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)


@pytest.mark.parametrize("lines", [1, 25, 70, 110])
def test_an_agent_killed_in_the_middle_of_the_log_adopts_the_run(lines: int, control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)
    agent.start()
    agent.until(lambda: len(execution.stdout) >= lines, f"{lines} lines")
    agent.kill()
    time.sleep(0.3)

    control.drain = True
    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)


def test_a_run_that_ended_while_no_agent_lived_is_told_by_the_next(control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)
    agent.start()
    agent.until(lambda: execution.stdout, "a line")
    agent.kill()
    exit_file = agent.directory / "runs" / f"{execution.job.execution_id}-1.1" / "exit"
    agent.until(exit_file.exists, "the run to end")

    control.drain = True
    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)


def test_an_agent_killed_again_and_again_still_tells_everything_once(control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)
    control.drain = True
    for round_number in range(6):
        agent.start()
        agent.until(lambda n=round_number: len(execution.lines) > n * 20 or execution.finish, "progress")
        agent.kill()

    agent.start()

    assert agent.wait() == 0
    assert_told_once(execution, control)


def test_an_outage_of_the_control_plane_costs_nothing(control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)
    agent.start()
    agent.until(lambda: len(execution.stdout) > 5, "some lines")

    control.away = True
    time.sleep(1.5)
    control.away, control.answer_503 = False, True
    time.sleep(0.5)
    control.answer_503 = False

    agent.until_finished(execution)
    assert_told_once(execution, control)


def test_a_stale_epoch_kills_the_run_at_once_and_forgets_it(control: Control, agent: Agent) -> None:
    execution = control.offer("echo $$; while :; do echo tick; sleep 0.05; done")
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")

    control.fence(execution)

    pid = execution.stdout[0]
    agent.until(lambda: not Path(f"/proc/{pid}").exists(), "the run to be killed")
    agent.until(lambda: not list((agent.directory / "runs").iterdir()), "the run to be forgotten")
    assert execution.finish is None
    following = control.offer("echo next")
    agent.until_finished(following)


def test_a_run_adopted_under_a_stale_epoch_is_killed(control: Control, agent: Agent) -> None:
    execution = control.offer("echo $$; while :; do echo tick; sleep 0.05; done")
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")
    agent.kill()
    control.fence(execution)

    agent.start()

    pid = execution.stdout[0]
    agent.until(lambda: not Path(f"/proc/{pid}").exists(), "the run to be killed")


def test_a_run_ends_before_its_lease_does_when_nobody_answers(control: Control, agent: Agent) -> None:
    execution = control.offer("echo $$; sleep 600", lease_seconds=18, limits=Limits(stop_grace=1))
    agent.start()
    agent.until(lambda: execution.stdout, "the step to run")

    control.away = True

    pid = execution.stdout[0]
    agent.until(lambda: not Path(f"/proc/{pid}").exists(), "the run to be stopped")
    control.away = False
    agent.until_finished(execution)
    assert execution.finish is not None
    assert execution.finish.outcome == "lost"


def test_a_process_that_hides_in_another_session_is_ended_with_its_run(control: Control, agent: Agent) -> None:
    execution = control.offer("setsid sh -c 'echo $$; exec sleep 600' & sleep 0.5; echo done")
    agent.start()

    agent.until_finished(execution)

    hidden = execution.stdout[0]
    assert execution.stdout[1:] == ["done"]
    assert not Path(f"/proc/{hidden}").exists() or "Z" in Path(f"/proc/{hidden}/stat").read_text().split()[2]


def test_a_second_agent_for_the_same_directory_goes_away(control: Control, agent: Agent) -> None:
    execution = control.offer("echo ready; sleep 600")
    first = agent.start()
    agent.until(lambda: execution.stdout, "the step to run")

    second = agent.start()

    assert second.wait(60) == 0
    assert first.poll() is None
    assert len(control.registrations) == 1
    first.kill()
    first.wait()


def test_a_restarted_agent_keeps_its_session(control: Control, agent: Agent) -> None:
    agent.start()
    agent.until(lambda: control.seen["lease"] > 0, "a claim")
    agent.kill()
    claims = control.seen["lease"]

    agent.start()

    agent.until(lambda: control.seen["lease"] > claims, "another claim")
    assert len(control.registrations) == 1
    assert (agent.directory / "session.json").stat().st_mode & 0o777 == 0o600


def test_a_machine_whose_session_is_over_powers_off(control: Control, agent: Agent) -> None:
    agent.start()
    agent.until(lambda: control.seen["lease"] > 0, "a claim")

    control.sessions.clear()

    assert agent.wait() == 0


def test_a_machine_with_a_wrong_join_token_powers_off_and_says_why(control: Control, agent: Agent) -> None:
    control.join_token = "another"

    agent.start()

    assert agent.wait() == 0
    assert "refused this machine" in agent.log.read_text()


def test_a_machine_that_hears_nothing_for_too_long_powers_off(control: Control, agent: Agent) -> None:
    control.deadman_seconds = 1.0
    agent.start()
    agent.until(lambda: control.seen["lease"] > 0, "a claim")

    control.away = True

    assert agent.wait() == 0
    assert "no contact for too long" in agent.log.read_text()


def test_a_control_plane_that_was_never_there_is_given_up(new_agent: Callable[..., Agent], control: Control) -> None:
    control.away = True
    agent = new_agent()

    agent.start("--idle-power-off-seconds", "1")

    assert agent.wait() == 0


def test_a_shutdown_while_nobody_listens_is_told_by_the_next_agent(control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)
    agent.start()
    agent.until(lambda: len(execution.stdout) > 5, "some lines")
    control.away = True
    assert agent.process is not None
    agent.process.terminate()
    run = agent.directory / "runs" / f"{execution.job.execution_id}-1.1"
    agent.until(
        lambda: '"ended"' in (run / "state.json").read_text() or "uploaded" in (run / "state.json").read_text(),
        "the end",
    )
    agent.kill()
    control.away = False

    agent.start()

    agent.until_finished(execution)
    assert execution.finish is not None
    assert execution.finish.outcome == "interrupted"
    assert execution.stderr == [f"error {i}" for i in range(len(execution.stderr))]


def test_the_agent_stays_small(control: Control, agent: Agent) -> None:
    execution = control.offer(
        "i=0; while [ $i -lt 100000 ]; do echo a line of the log that is not short $i; i=$((i+1)); done; sleep 600"
    )
    agent.start()
    agent.until(lambda: len(execution.stdout) == 100_000, "all lines")

    resident = agent.rss_kib()

    print(f"the agent holds {resident / 1024:.1f} MiB, at most {agent.rss_kib('VmHWM') / 1024:.1f} MiB")
    assert resident <= 30 * 1024
    execution.stop = "user"
    agent.until_finished(execution)


def test_the_help_explains_itself() -> None:
    from tests.worker.harness import ROOT

    path = f"{ROOT}:{ROOT / 'worker_ami'}"
    command = [sys.executable, "-m", "lamplighter_worker.main", "run", "--help"]

    shown = subprocess.run(
        command, env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin:/usr/local/bin"}, capture_output=True, text=True
    )

    assert shown.returncode == 0
    assert "lamplighter-worker run --control-url https://ml.example.org" in shown.stdout


def test_events_that_the_control_plane_forgot_are_sent_again(control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)
    agent.start()
    agent.until(lambda: len(execution.lines) > 40, "some lines")

    with control.lock:
        del execution.lines[20:]
        execution.metadata = [point for point in execution.metadata if point[0] < 20]

    agent.until_finished(execution)
    assert_told_once(execution, control)


def test_events_forgotten_at_the_very_end_are_sent_again(control: Control, agent: Agent) -> None:
    execution = control.offer(SCRIPT)

    def forget() -> None:
        with control.lock:
            execution.finish, control.busy = None, execution.job.execution_id
            del execution.lines[20:]
            execution.metadata = [point for point in execution.metadata if point[0] < 20]

    control.lose["finish"] = 1
    control.on["finish"] = forget
    agent.start()

    agent.until_finished(execution)
    assert_told_once(execution, control)


def test_a_log_that_is_refused_for_good_gives_the_work_back(control: Control, agent: Agent) -> None:
    execution = control.offer("echo $$; sleep 600")
    agent.start()
    agent.until(lambda: execution.started is not None, "the step to run")
    with control.lock:
        execution.lines += [(2**60 + i, 2, "not this agent's") for i in range(1000)]

    agent.until(lambda: execution.finish is not None, "the end to be told")
    assert execution.finish is not None
    assert execution.finish.outcome == "lost"


def test_a_debug_session_is_offered_or_refused_in_plain_words(control: Control, agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    execution = control.offer("sleep 600", debug_port=port, debug_key="ssh-ed25519 AAAA nobody")
    agent.start()

    agent.until(
        lambda: any("::ssh::" in line or "SSH is not available" in line for line in execution.status), "a word on SSH"
    )

    [offered] = [line for line in execution.status if line.startswith("::ssh::")] or [""]
    if offered:
        address = json.loads(offered.removeprefix("::ssh::"))
        with socket.create_connection((address["address"], address["port"]), timeout=10) as connection:
            assert connection.recv(4) == b"SSH-"
    execution.stop = "user"
    agent.until_finished(execution)
