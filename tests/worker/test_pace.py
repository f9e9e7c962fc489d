"""How often an agent speaks: seldom while nobody looks and nothing is new, at once when somebody does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from lamplighter_worker.clock import boottime
from lamplighter_worker.heartbeat import Lease, Pulse
from lamplighter_worker.link import Link
from lamplighter_worker.notices import Notices

from lamplighter.contract.job import Job
from lamplighter.contract.report import Claim, Offer, Orders, Register, Registered
from tests.worker.control_double import Control
from tests.worker.harness import Agent

INTERVAL = 0.5


def test_a_log_that_waits_is_sent_at_once_when_somebody_looks(control: Control, agent: Agent) -> None:
    execution = control.offer("n=0; until [ -e $VH_OUTPUTS_DIR/go ]; do n=$((n+1)); echo $n; sleep 0.05; done")
    execution.watched = False
    agent.start()
    agent.until(lambda: control.seen["events"] >= 2, "the gaps between batches to have grown")
    seen = control.seen["events"]

    execution.watched = True

    # With gaps that go on growing, six more batches would take minutes.
    agent.until(lambda: control.seen["events"] >= seen + 6, "lines to flow")
    (agent.directory / "runs" / f"{execution.job.execution_id}-1.1" / "outputs" / "go").touch()
    agent.until_finished(execution)


def test_other_answers_count_as_heartbeats_and_what_is_new_is_told_all_the_same(
    control: Control, tmp_path: Path
) -> None:
    control.heartbeat_seconds = INTERVAL
    control.offer("true")
    link, job = leased(control)
    lease = Lease(tmp_path / "lease")
    notices = Notices()
    pulse = Pulse(link, job, lease, notices, interval=INTERVAL, orders=lambda _: None, refused=lambda _: None)
    try:
        pulse.phase = "running"
        pulse.start()
        until(lambda: "running" in control.executions[job.execution_id].phases)
        beats = control.seen["heartbeat"]
        for _ in range(20):
            pulse.heard(boottime(), Orders(lease_seconds=900, heartbeat_seconds=INTERVAL))
            threading.Event().wait(INTERVAL / 5)
        while_heard = control.seen["heartbeat"]
        pulse.phase = "uploading outputs"
        until(lambda: "uploading outputs" in control.executions[job.execution_id].phases)
        notices.hear("rebalance")
        until(lambda: "rebalance" in control.notices)
    finally:
        pulse.close()

    assert while_heard == beats
    assert lease.stop_by > boottime() + 800


def test_many_outputs_share_their_calls(control: Control, agent: Agent) -> None:
    execution = control.offer("for n in $(seq 40); do echo $n > $VH_OUTPUTS_DIR/$n; done")
    control.way_seconds = 0.2
    agent.start()

    agent.until_finished(execution)

    assert len(execution.stored) == 40
    assert control.seen["outputs"] <= 20
    assert control.seen["stored"] <= 20


def leased(control: Control) -> tuple[Link, Job]:
    """The wire of a machine that has been given a job."""
    link = Link(control.url)
    join = f"Join {control.join_token}"
    hello = Register("machine", "1", "process", "host", 1, 1, 1)
    link.session = link.post("register/", hello, Registered, authorization=lambda: join).session
    job = link.post("lease/", Claim("claim"), Offer).job
    assert job is not None
    return link, job


def until(holds: Callable[[], object]) -> None:
    deadline = boottime() + 60
    while not holds():
        assert boottime() < deadline
        threading.Event().wait(0.02)
