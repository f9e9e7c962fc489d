"""The whole product on an emulated AWS: deployed by sam, used by the unmodified vh, its machines booted from the image."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.deployed.deployment import Deployment
from tests.e2e.api import until
from tests.e2e.vh import VhHome


def test_a_run_of_an_unmodified_vh_lights_a_machine_and_puts_it_out(deployment: Deployment, tmp_path: Path) -> None:
    vh = VhHome(deployment.api(), tmp_path / "home").log_in()
    before = set(deployment.machines.booted)

    counter = vh.run("train", "--lr=0.5", "--tag", "on-aws")
    execution = vh.ended(counter, seconds=180)

    assert "has taken the job (attempt 1)" in vh("exec", "logs", str(counter)).out
    described = vh("exec", "info", str(counter)).out
    assert re.search(r"lr\W+0\.5", described)
    assert json.loads(vh.output(execution, "seen.json"))["parameters"]["lr"] == 0.5
    outputs = vh.server.outputs(execution)
    lineage = vh.server.get(f"/api/v0/data/{outputs[0]['id']}/")
    assert lineage["output_execution"]["id"] == execution["id"]
    (machine,) = set(deployment.machines.booted) - before
    until(lambda: not deployment.alive(), "every instance is terminated", seconds=120)
    assert not deployment.machines.booted[machine].is_on


def test_a_run_is_stopped_and_what_it_has_written_is_kept(deployment: Deployment, tmp_path: Path) -> None:
    vh = VhHome(deployment.api(), tmp_path / "home").log_in()
    counter = vh.run("slow")
    vh.started(counter)
    until(lambda: vh("exec", "logs", str(counter)).out.strip(), "the first line is there", seconds=60)

    vh("exec", "stop", str(counter))

    assert vh.ended(counter, status="stopped")["status"] == "stopped"
    until(lambda: not deployment.alive(), "every instance is terminated", seconds=120)
