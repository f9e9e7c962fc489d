"""A request with nonsense in it is refused whole; and a record that nobody can read is in nobody's way."""

from __future__ import annotations

from typing import Any

import pytest

from lamplighter import keys
from lamplighter.domain.executions import Status
from lamplighter.domain.runtime_config import read_runtime_config
from lamplighter.errors import Invalid, Unavailable
from lamplighter.ports import ANY, Put
from lamplighter.usecases import browse
from tests.life import Life, with_agent

NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"no_output_timeout": "x"}, "runtime_config.no_output_timeout"),
    ({"no_output_timeout": -1}, "runtime_config.no_output_timeout"),
    ({"autorestart": "yes"}, "runtime_config.autorestart"),
    ({"remote_debug": "x"}, "runtime_config.remote_debug"),
    ({"remote_debug": {"debug_port": 70000}}, "runtime_config.remote_debug.debug_port"),
    ({"remote_debug": {"debug_key": ["k"]}}, "runtime_config.remote_debug.debug_key"),
    ({"kubernetes": "x"}, "runtime_config.kubernetes"),
    ({"kubernetes": {"containers": [1]}}, "runtime_config.kubernetes.containers"),
    (
        {"kubernetes": {"containers": {"workload": {"resources": {"limits": {"memory": "1Gi"}}}}}},
        "runtime_config.kubernetes.containers.workload.resources.limits.memory",
    ),
    ({"big": "x" * 100_000}, "runtime_config"),
    ({"huge": float("inf")}, "runtime_config"),
]


@pytest.mark.parametrize(("config", "field"), NONSENSE)
def test_a_runtime_configuration_that_cannot_be_meant_is_refused_and_nothing_is_stored(
    config: dict[str, Any], field: str
):
    life = Life()

    with pytest.raises(Invalid) as refused:
        life.submit(runtime_config=config)

    assert list(refused.value.fields) == [field]
    assert browse.list_executions(life.principal, browse.ExecutionFilter(life.project.id), world=life.world) == ([], 0)


def test_what_clients_really_send_is_understood():
    resources = {"requests": {"cpu": 1}, "limits": {"cpu": 1.5, "memory": 512, "devices": {"gpu": 1}}}
    config = {
        "remote_debug": {"debug_port": 2222, "debug_key": "ssh-ed25519 AAAA"},
        "autorestart": True,
        "kubernetes": {"containers": {"workload": {"resources": resources}}, "cache_volumes": [{"pvc_name": "a"}]},
    }

    asked = read_runtime_config(config)

    assert (asked.debug_port, asked.autorestart, asked.memory_mib, asked.cpus) == (2222, True, 512, 1.5)


def test_an_execution_that_cannot_be_composed_ends_and_the_next_one_gets_the_machine():
    life = Life(max_machines=1)
    broken = life.submit()
    row = life.world.metadata.get(keys.execution(broken.id))
    assert row
    life.world.metadata.transact([Put(row.key, {**row.value, "runtime_config": {"kubernetes": "x"}}, row.version)])
    healthy = life.submit()
    agent = with_agent(life)

    first = agent.claim("claim-1")
    second = agent.claim("claim-2")

    ended = life.execution(broken.id)
    assert first.order == "wait"
    assert ended.status is Status.ERROR
    assert "kubernetes" in ended.status_detail
    assert second.job
    assert second.job.execution_id == healthy.id


def test_a_record_that_nobody_can_read_hides_no_other_and_stops_no_sweep(caplog: pytest.LogCaptureFixture):
    life = Life()
    damaged, healthy = life.submit(), life.submit()
    row = life.world.metadata.get(keys.execution(damaged.id))
    assert row
    life.world.metadata.transact([Put(row.key, {**row.value, "no_output_timeout": "x"}, ANY)])

    found, count = browse.list_executions(life.principal, browse.ExecutionFilter(life.project.id), world=life.world)
    swept = life.sweep(seconds=5)

    assert [e.id for e in found] == [healthy.id]
    assert count == 1
    assert damaged.id in caplog.text
    assert any("no_output_timeout" in fault for fault in swept.faults)
    assert with_agent(life).claim().order == "work"


def test_a_store_that_does_not_answer_is_told_until_it_answers_again():
    life = Life()
    execution = life.submit()
    agent = with_agent(life)
    agent.claim()
    answering, life.store.put = life.store.put, _no_answer  # type: ignore[method-assign]

    with pytest.raises(Unavailable):
        agent.say("hello")
    waiting = life.execution(execution.id).status_detail
    life.store.put = answering  # type: ignore[method-assign]
    agent.say("hello")

    assert waiting == "Waiting for the store default: connection refused"
    assert life.execution(execution.id).status_detail == ""


def _no_answer(*_: object, **__: object) -> None:
    raise Unavailable("connection refused")
