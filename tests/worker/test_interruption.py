"""A machine that its cloud takes back: the run writes down what it has, that is saved and told, and the machine goes."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lamplighter_worker.heartbeat import Lease
from lamplighter_worker.metadata_service import MetadataService
from lamplighter_worker.notices import TELLING_SECONDS, Notices, SpotWatch
from lamplighter_worker.rundir import RunDirectory
from lamplighter_worker.situation import Situation
from lamplighter_worker.stopping import Ending
from lamplighter_worker.telling import Teller

from lamplighter.contract.report import Notice
from tests.docker import ensure_docker
from tests.worker.control_double import Control
from tests.worker.harness import Agent
from tests.worker.metadata_double import Metadata
from tests.worker.test_docker import containers
from tests.worker.test_pace import leased

INTERRUPTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
ANNOUNCED = json.dumps({"action": "terminate", "time": "2026-01-05T10:02:00Z"})
RECOMMENDED = json.dumps({"noticeTime": "2026-01-05T10:00:00Z"})

CHECKPOINTING = """sh -c 'trap "echo step 7 > $VH_OUTPUTS_DIR/last.ckpt; echo saved; exit 0" INT
echo ready; while :; do sleep 0.1; done'"""


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    service = Metadata()
    yield service
    service.shutdown()
    service.server_close()


@pytest.fixture(params=["process", "docker"])
def agent(
    request: pytest.FixtureRequest, new_agent: Callable[..., Agent], control: Control, metadata: Metadata
) -> Iterator[Agent]:
    """An agent in either runtime that can ask its machine's metadata service."""
    if request.param == "docker":
        ensure_docker()
    made = new_agent(request.param)
    made.variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata.url
    yield made
    if request.param == "docker":
        if made.process is not None and made.process.poll() is None:
            made.kill()
        for name in containers(made):
            subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def test_an_interrupted_run_saves_its_checkpoint_and_the_machine_goes(
    control: Control, agent: Agent, metadata: Metadata
) -> None:
    execution = control.offer(CHECKPOINTING)
    later = control.offer("echo never")
    agent.start("--spot-watch", "ec2")
    agent.until(lambda: "ready" in execution.stdout, "the step to run")

    metadata.values[INTERRUPTION] = ANNOUNCED

    assert agent.wait() == 0
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.notice) == ("interrupted", "interruption")
    assert execution.finish.reason == "the cloud takes the machine back"
    assert [o.name for i, o in execution.outputs.items() if i in execution.stored] == ["last.ckpt"]
    assert execution.stdout == ["ready", "saved"]
    assert control.farewells == ["the cloud gave notice: interruption"]
    assert later.finish is None
    assert control.faults == []


def test_a_notice_that_the_control_plane_has_heard_counts_as_well(control: Control, agent: Agent) -> None:
    execution = control.offer(CHECKPOINTING)
    agent.start()
    agent.until(lambda: "ready" in execution.stdout, "the step to run")

    execution.notice = "interruption"

    assert agent.wait() == 0
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.notice) == ("interrupted", "interruption")
    assert [output.name for output in execution.outputs.values()] == ["last.ckpt"]


@pytest.mark.parametrize("agent", ["process"], indirect=True)
def test_while_nobody_listens_the_run_is_ended_all_the_same_and_told_when_somebody_does(
    control: Control, agent: Agent, metadata: Metadata
) -> None:
    execution = control.offer(CHECKPOINTING)
    agent.start("--spot-watch", "ec2")
    agent.until(lambda: "ready" in execution.stdout, "the step to run")
    control.away = True
    metadata.values[INTERRUPTION] = ANNOUNCED
    state = agent.directory / "runs" / f"{execution.job.execution_id}-1.1" / "state.json"
    agent.until(lambda: '"ended"' in state.read_text(), "the run to be ended")
    control.away = False

    assert agent.wait() == 0
    assert execution.finish is not None
    assert execution.finish.outcome == "interrupted"
    assert [output.name for output in execution.outputs.values()] == ["last.ckpt"]


@pytest.mark.parametrize("agent", ["process"], indirect=True)
def test_after_a_rebalance_notice_the_run_goes_on_and_is_the_last(
    control: Control, agent: Agent, metadata: Metadata
) -> None:
    execution = control.offer("echo ready; until [ -e $VH_OUTPUTS_DIR/go ]; do sleep 0.1; done; echo done")
    control.on["lease"] = lambda: metadata.values.update({REBALANCE: RECOMMENDED})
    agent.start("--spot-watch", "ec2")
    agent.until(lambda: "ready" in execution.stdout, "the step to run")
    agent.until(lambda: "rebalance" in control.notices, "the notice to be reported")
    (agent.directory / "runs" / f"{execution.job.execution_id}-1.1" / "outputs" / "go").touch()

    assert agent.wait() == 0
    assert execution.finish is not None
    assert (execution.finish.outcome, execution.finish.notice) == ("complete", "rebalance")
    assert control.farewells == ["the cloud gave notice: rebalance"]


@pytest.mark.parametrize("agent", ["process"], indirect=True)
def test_a_machine_without_a_run_goes_at_the_first_word(control: Control, agent: Agent, metadata: Metadata) -> None:
    metadata.values[REBALANCE] = RECOMMENDED

    agent.start("--spot-watch", "ec2")

    assert agent.wait() == 0
    assert control.farewells == ["the cloud gave notice: rebalance"]


@pytest.mark.parametrize("nonsense", ["<html>", "[]", "{}", "null", '{"action": ""}'])
def test_only_what_looks_like_a_notice_is_one(nonsense: str, metadata: Metadata) -> None:
    metadata.values = {INTERRUPTION: nonsense, REBALANCE: RECOMMENDED}
    heard: list[str] = []
    some = threading.Event()

    SpotWatch(MetadataService(metadata.url), lambda notice: (heard.append(notice), some.set())).start()

    assert some.wait(20)
    assert heard == ["rebalance"]


def test_notices_only_grow_graver_and_the_time_counts_from_the_first_interruption() -> None:
    notices = Notices()
    seen = []
    said: tuple[Notice, ...] = ("", "rebalance", "", "interruption", "rebalance")
    for notice in said:
        notices.hear(notice)
        seen.append((notices.notice, notices.interrupted))
    first = notices.over_at
    notices.hear("interruption")

    assert [notice for notice, _ in seen] == ["", "rebalance", "rebalance", "interruption", "interruption"]
    assert [interrupted for _, interrupted in seen] == [False, False, False, True, True]
    assert notices.over_at == first


def test_what_cannot_be_uploaded_in_time_is_cut_and_said(control: Control, tmp_path: Path) -> None:
    control.offer("true")
    link, job = leased(control)
    run = RunDirectory.create(tmp_path / "runs", job, "claim")
    run.update(ending=Ending("complete", "", 0), phase="ended")
    notices = Notices(budget_seconds=TELLING_SECONDS + 3)
    teller = Teller(run, link, Situation(Lease(tmp_path / "lease"), threading.Event(), notices, None), "/outputs")
    outputs = teller.outputs(lambda _text: None, control.url)
    (run.path / "outputs" / "small.txt").write_text("small")
    with (run.path / "outputs" / "large.bin").open("wb") as large:
        large.truncate(2**40)

    notices.hear("interruption")
    teller.upload(outputs, lambda _text: None)
    outputs.close()

    assert run.state.ending is not None
    assert run.state.ending.outcome == "interrupted"
    assert run.state.ending.reason == "there was no time to upload 1 outputs: large.bin"
    assert [control.executions[job.execution_id].outputs[i].name for i in run.state.outputs] == ["small.txt"]
