"""What the server's log tells an operator, and that it is silent when nothing happened."""

from __future__ import annotations

import json

import pytest

from functions.local.news import News
from lamplighter.errors import LaunchRefused
from lamplighter.intents import intend
from lamplighter.ports import LaunchRequest
from lamplighter.usecases.sweep_report import SweepReport
from tests.life import Life, with_agent


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines since the last call."""
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_a_run_that_goes_well_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    news = News(life.world)
    life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()

    news.tell(life.sweep(seconds=5))
    agent.finish()
    news.tell(life.sweep(seconds=5))

    assert told(caplog) == []


def test_a_lost_machine_is_told_with_the_run_that_waits_again(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    news = News(life.world)
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    agent.start()
    life.cloud.lose(agent.machine_id, "the power went")

    news.tell(life.sweep(seconds=5))
    news.tell(life.sweep(seconds=5))

    lines = told(caplog)
    assert lines[0] == "sweep unreachable=0 lost=1 fenced=0 requeued=0 orphans=0 braked=false"
    assert [line.split(" because=")[0] for line in lines[1:]] == [f"execution requeued execution={execution.id}"]
    assert "the power went" in lines[1]


def test_a_run_that_is_given_up_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    news = News(life.world)
    execution = life.submit()
    for _ in range(6):
        agent = with_agent(life)
        agent.claim()
        life.cloud.lose(agent.machine_id)
        life.sweep(seconds=5)

    news.tell(life.sweep(seconds=5))
    news.tell(SweepReport())

    lines = told(caplog)
    assert sum(line.startswith("execution requeued") for line in lines) == 5
    assert sum(line.startswith(f"execution crashed execution={execution.id} ") for line in lines) == 1


def test_what_ended_before_the_server_started_is_not_told_again(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    life.submit()
    agent = with_agent(life)
    agent.claim()
    life.cloud.lose(agent.machine_id)
    life.sweep(seconds=5)

    News(life.world).tell(SweepReport())

    assert told(caplog) == []


def test_a_launch_that_fails_is_told_with_its_cause_and_each_failure_once(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    refuse = ["bad image"]
    launch = life.cloud.launch

    def refusing(request: LaunchRequest) -> object:
        if refuse:
            raise LaunchRefused(refuse[0])
        return launch(request)

    life.cloud.launch = refusing
    news = News(life.world)
    life.submit()

    news.tell(life.sweep())
    news.tell(SweepReport())

    lines = [line for line in told(caplog) if line.startswith("launch failed")]
    assert len(lines) == 1
    assert "environment=local in_a_row=" in lines[0]
    assert "bad image" in lines[0]


def test_a_parked_intent_is_told_once_with_what_it_was_about(caplog: pytest.LogCaptureFixture) -> None:
    life = Life()
    news = News(life.world)
    life.world.metadata.transact([intend(life.world, "start_machine", machine_id="m-1")])
    for _ in range(10):
        life.sweep(minutes=5)

    news.tell(SweepReport())
    news.tell(SweepReport())

    (line,) = [line for line in told(caplog) if line.startswith("intent parked")]
    assert "kind=start_machine machine_id=m-1 tries=8 because=" in line


def test_a_fault_that_lasts_is_told_when_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    news = News(Life().world)
    away = SweepReport(faults=("cloud local could not be described: away",))

    for report in (away, away, SweepReport(), away):
        news.tell(report)

    assert told(caplog) == ['sweep fault because="cloud local could not be described: away"'] * 2


def test_a_brake_is_told(caplog: pytest.LogCaptureFixture) -> None:
    News(Life().world).tell(SweepReport(unreachable=7, braked=True))

    assert told(caplog) == ["sweep unreachable=7 lost=0 fenced=0 requeued=0 orphans=0 braked=true"]


def test_a_hostile_text_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    fault = 'x\nERROR root: braked="true"'

    News(Life().world).tell(SweepReport(faults=(fault,)))

    (line,) = told(caplog)
    assert line == f"sweep fault because={json.dumps(fault)}"
