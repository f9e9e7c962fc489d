"""A cloud takes a machine back in the middle of a run: the run goes on elsewhere from what it has saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from functions.settings import Settings
from functions.wiring import make_world
from lamplighter import keys
from lamplighter.domain.executions import Execution
from lamplighter.domain.machines import Machine
from lamplighter.records import need
from lamplighter.usecases.cloud_events import spot_notice
from lamplighter.world import World
from tests.e2e.api import until
from tests.e2e.conftest import NewServer
from tests.e2e.image import ensure_image
from tests.e2e.vh import VhHome


def machine_of(execution_id: str, world: World) -> Machine:
    """The machine that runs it now."""
    ran = need(world.metadata, Execution, keys.execution(execution_id), "the execution").value.ran
    assert ran is not None
    return need(world.metadata, Machine, keys.machine(ran.machine_id), "its machine").value


@pytest.mark.parametrize("runtime", ["process", "docker"])
def test_an_interrupted_run_goes_on_from_its_checkpoint_on_another_machine(
    runtime: str, new_server: NewServer, tmp_path: Path
) -> None:
    if runtime == "docker":
        ensure_image()
    server = new_server(runtime)
    vh = VhHome(server, tmp_path / "home").log_in()
    vh.run("resumable")
    started = vh.started()
    until(lambda: "step 3" in server.events(started), "it has come to step 3")
    # As the function that hears the cloud's events does it: in a process of its own, on the same records.
    world = make_world(Settings(state=server.state, url=server.url))
    first = machine_of(started["id"], world)

    spot_notice(first.cloud, first.cloud_id, "interruption", world=world)

    ended = vh.ended()
    assert ended["status"] == "complete"
    assert server.events(ended) == [
        "from 0 with []",
        *(f"step {n}" for n in range(1, 4)),
        "interrupted",
        "from 3 with ['step.txt']",
        *(f"step {n}" for n in range(4, 11)),
    ]
    assert vh.output(ended, "model.txt") == b"10\n"
    assert machine_of(ended["id"], world).id != first.id
    restart = [item["urls"] for item in ended["inputs"] if item["name"] == "_restart"]
    assert [[url.startswith("datum://") for url in urls] for urls in restart] == [[True]]
    datum = server.get(f"/api/v0/data/{restart[0][0].removeprefix('datum://')}/")
    assert (datum["name"], datum["output_execution"]["id"]) == ("step.txt", ended["id"])
