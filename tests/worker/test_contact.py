"""The file that tells the machine's own timer when the agent last heard of its control plane."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lamplighter_worker.clock import boottime
from lamplighter_worker.contact import ContactFile
from lamplighter_worker.heartbeat import PATIENCE, Lease, Pulse
from lamplighter_worker.link import Link
from lamplighter_worker.notices import Notices

from lamplighter.contract.report import Claim, Offer
from lamplighter.errors import StaleEpoch, Unavailable
from tests.worker.control_double import Control
from tests.worker.harness import Agent
from tests.worker.test_link import Scripted


@pytest.fixture
def server() -> Iterator[Scripted]:
    running = Scripted()
    yield running
    running.shutdown()
    running.server_close()


def test_a_word_from_the_control_plane_is_noted_in_seconds_since_boot(server: Scripted, tmp_path: Path) -> None:
    server.answers = [(200, b'{"order": "wait"}')]
    link = Link(_url(server), heard=ContactFile(tmp_path / "contact").note)
    before = int(boottime())

    link.post("lease/", Claim("c"), Offer)

    assert before <= int((tmp_path / "contact").read_text()) <= boottime()


def test_a_refusal_is_a_word_too(server: Scripted, tmp_path: Path) -> None:
    server.answers = [(409, b'{"code": "stale_epoch", "message": "gone"}')]
    link = Link(_url(server), heard=ContactFile(tmp_path / "contact").note)

    with pytest.raises(StaleEpoch):
        link.post("lease/", Claim("c"), Offer)

    assert (tmp_path / "contact").read_text().strip().isdecimal()


@pytest.mark.parametrize("answer", [(0, b""), (502, b"<html>"), (404, b"<html>")])
def test_an_outage_and_a_proxy_are_no_contact(server: Scripted, tmp_path: Path, answer: tuple[int, bytes]) -> None:
    server.answers = [answer]
    (tmp_path / "contact").write_text("42\n")
    link = Link(_url(server), heard=ContactFile(tmp_path / "contact").note)

    with pytest.raises(Unavailable):
        link.post("lease/", Claim("c"), Offer)

    assert (tmp_path / "contact").read_text() == "42\n"


def test_the_agent_keeps_the_file_that_it_was_given(control: Control, agent: Agent, tmp_path: Path) -> None:
    control.drain = True

    agent.start("--contact-file", str(tmp_path / "contact"))

    assert agent.wait() == 0
    assert 0 < int((tmp_path / "contact").read_text()) <= boottime()


def test_the_machine_stays_while_a_run_has_ended_and_nobody_hears_of_it(
    control: Control, agent: Agent, tmp_path: Path
) -> None:
    execution = control.offer('sleep 1; echo kept > "$VH_OUTPUTS_DIR/model.txt"')
    agent.start("--contact-file", str(tmp_path / "contact"))
    agent.until(lambda: execution.started is not None, "the step to run")
    control.away = True

    last = int((tmp_path / "contact").read_text())
    agent.until(lambda: int((tmp_path / "contact").read_text()) >= last + 5, "the file to be kept fresh")
    control.away = False

    agent.until_finished(execution)
    assert execution.finish is not None
    assert (execution.finish.outcome, len(execution.finish.outputs)) == ("complete", 1)


@pytest.mark.parametrize(("over", "stays"), [(-60.0, True), (60.0, False)])
def test_it_does_not_stay_for_ever(
    over: float, stays: bool, server: Scripted, control: Control, tmp_path: Path
) -> None:
    server.answers = [(502, b"")] * 20
    lease = Lease(tmp_path / "lease")
    lease.stop_by = boottime() - PATIENCE - over
    noted: list[float] = []
    pulse = Pulse(
        Link(_url(server)),
        control.offer("true").job,
        lease,
        Notices(),
        interval=0.01,
        orders=lambda _orders: None,
        refused=lambda _error: None,
        stay=noted.append,
    )

    pulse.start()
    while len(server.answers) > 18:
        time.sleep(0.01)
    pulse.close()

    assert bool(noted) == stays


def _url(server: Scripted) -> str:
    return f"http://127.0.0.1:{server.server_port}"
