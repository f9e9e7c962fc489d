"""The whole product on an emulated AWS: deployed by sam, used by the unmodified vh, its machines booted from the image."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tests.deployed.deployment import Deployment
from tests.e2e.api import until
from tests.e2e.vh import VhHome

LINES = 60_000
LONG_LOG = f"""
import secrets
for number in range({LINES}):
    print("number", number, secrets.token_urlsafe(96))
"""


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
    deployment.machines.booted[machine].wait_off()


def test_a_run_is_stopped_and_what_it_has_written_is_kept(deployment: Deployment, tmp_path: Path) -> None:
    vh = VhHome(deployment.api(), tmp_path / "home").log_in()
    counter = vh.run("slow")
    vh.started(counter)
    until(lambda: vh("exec", "logs", str(counter)).out.strip(), "the first line is there", seconds=60)

    vh("exec", "stop", str(counter))

    assert vh.ended(counter, status="stopped")["status"] == "stopped"
    until(lambda: not deployment.alive(), "every instance is terminated", seconds=120)


def test_a_spot_machine_that_is_taken_back_hands_its_work_on(deployment: Deployment, tmp_path: Path) -> None:
    vh = VhHome(deployment.api(), tmp_path / "home").log_in()
    before = set(deployment.machines.booted)
    started = vh.started(vh.run("resumable"))
    until(lambda: "step 3" in vh.server.events(started), "it has come to step 3", seconds=90)
    (first,) = set(deployment.machines.booted) - before

    deployment.announce("EC2 Spot Instance Interruption Warning", first, {"instance-action": "terminate"})

    ended = vh.ended(seconds=240)
    assert vh.server.events(ended)[-1] == "step 10"
    assert "from 3 with ['step.txt']" in vh.server.events(ended)
    assert vh.output(ended, "model.txt") == b"10\n"
    assert len(set(deployment.machines.booted) - before) == 2
    until(lambda: not deployment.alive(), "every instance is terminated", seconds=120)


def test_a_folder_that_the_platform_does_not_carry_is_refused_with_the_way_out(
    deployment: Deployment, tmp_path: Path
) -> None:
    vh = VhHome(deployment.api(), tmp_path / "home").log_in()
    (vh.folder / "weights.bin").write_bytes(os.urandom(4_300_000))

    refused = vh("exec", "run", "--adhoc", "train", fails=True).out

    assert "4 MiB" in refused
    assert "git" in refused


def test_a_log_that_the_platform_does_not_carry_is_read_all_the_same(deployment: Deployment, tmp_path: Path) -> None:
    vh = VhHome(deployment.api(), tmp_path / "home").log_in()
    (vh.folder / "many_lines.py").write_text(LONG_LOG)

    counter = vh.run("many-lines")
    vh.ended(counter, seconds=180)
    log = vh("exec", "logs", "--no-status", "--all", str(counter), seconds=180).stdout

    lines = [line for line in log.splitlines() if "number" in line]
    assert len(lines) == LINES
    assert "number 0 " in lines[0]
    assert f"number {LINES - 1} " in lines[-1]
