"""What runs leave behind, what they are given, and how one finds out where it came from."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

from tests.e2e.api import until
from tests.e2e.server import CLIENTS
from tests.e2e.vh import VhHome

BLOB = bytes(range(256)) * 40


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_outputs_are_listed_and_downloaded_byte_for_byte(anywhere: VhHome, tmp_path: Path) -> None:
    vh = anywhere
    vh.run("prep")
    vh.ended()

    listed = vh("exec", "outputs", "latest").out
    vh("exec", "outputs", "latest", "-d", str(tmp_path / "all"))
    vh("exec", "outputs", "latest", "-d", str(tmp_path / "some"), "-f", "*.csv")

    assert "deep/blob.bin" in listed
    csv = {"data.csv": b"a,b\n1,2\n", "deep/er/table.csv": b"c\n3\n"}
    assert files_below(tmp_path / "all") == {**csv, "deep/blob.bin": BLOB}
    assert files_below(tmp_path / "some") == csv


def test_more_outputs_than_fit_on_a_page_are_all_there(vh: VhHome) -> None:
    vh.run("many-files")
    ended = vh.ended(seconds=240)

    listed = vh.table("exec", "outputs", "latest")

    assert ended["n_outputs"] == 5020
    assert {row["name"] for row in listed} == {f"part-{number // 1000}/{number}.txt" for number in range(5020)}


def test_outputs_of_an_ended_run_are_synced_into_a_folder(vh: VhHome, tmp_path: Path) -> None:
    vh.run("prep")
    vh.ended()

    said = vh("exec", "outputs", "latest", "--sync", "-d", str(tmp_path / "out")).out

    assert "Execution has finished." in said
    assert (tmp_path / "out" / "deep" / "blob.bin").read_bytes() == BLOB


def test_outputs_arrive_in_a_folder_while_one_watches(vh: VhHome, tmp_path: Path) -> None:
    out = tmp_path / "out"

    watching = vh.popen("exec", "run", "--adhoc", "--sync", str(out), "prep")
    try:
        until(lambda: len(files_below(out)) == 3 if out.is_dir() else False, "three files arrive")
    finally:
        watching.kill()
        watching.communicate(timeout=30)

    vh.ended()
    assert (out / "data.csv").read_bytes() == b"a,b\n1,2\n"


def test_valohai_utils_reads_the_servers_values_and_not_the_defaults_of_the_script(anywhere: VhHome, web: str) -> None:
    vh = anywhere

    vh.run("library", f"--images={web}/first.txt", f"--images={web}/second.txt")

    ended = vh.ended()
    found = json.loads(vh.output(ended, "models/found.json"))
    assert found == {"lr": 0.25, "images": ["the first", "the second"], "name": "first.txt"}
    assert ended["cumulative_metadata"]["acc"] == 0.9
    points = vh.server.get(f"/api/v0/executions/{ended['id']}/metadata/")
    assert [point["acc"] for point in points if "acc" in point] == [0.5, 0.9]
    assert "0.9" in vh("exec", "summarize", "1").out


def test_a_live_upload_is_there_before_the_run_ends(anywhere: VhHome) -> None:
    vh = anywhere
    vh.run("live")

    started = vh.started()
    found = until(lambda: vh.server.outputs(started), "the output is there")

    assert vh.execution()["status"] == "started"
    assert [datum["name"] for datum in found] == ["a.txt"]
    assert vh.server.content(found[0]) == b"ready long before the end\n"
    vh("exec", "stop", "latest")
    assert len(vh.server.outputs(vh.ended(status="stopped"))) == 1


def test_outputs_carry_the_tags_alias_and_properties_that_the_run_gave_them(anywhere: VhHome) -> None:
    vh = anywhere

    vh.run("properties")

    ended = vh.ended()
    data = {datum["name"]: datum for datum in vh.server.outputs(ended)}
    assert set(data) == {"model.bin", "plain.bin"}
    assert data["model.bin"]["tags"] == ["prod", "small"]
    assert data["model.bin"]["aliases"] == ["model-prod"]
    assert data["plain.bin"]["tags"] == []
    listed = vh("data", "list").out
    assert "model.bin" in listed
    assert "#1" in listed
    aliases = vh("alias", "list").out
    assert "model-prod" in aliases
    assert "model.bin" in aliases


def test_a_run_says_how_far_it_is(anywhere: VhHome) -> None:
    vh = anywhere
    vh.run("live")

    vh.started()

    until(lambda: vh.execution()["status_detail"] == "epoch 3", "the run says how far it is")
    vh("exec", "stop", "latest")
    ended = vh.ended(status="stopped")
    assert "Status detail send failed" not in "\n".join(vh.server.events(ended, "stderr"))


def test_lists_of_data_and_aliases_are_shown_when_there_are_none(vh: VhHome) -> None:
    assert "No data." in vh("data", "list").out
    assert "No data aliases." in vh("alias", "list").out


def test_an_empty_file_is_listed(vh: VhHome) -> None:
    (vh.folder / "prep.py").write_text("import valohai\nopen(valohai.outputs().path('empty'), 'w').close()\n")
    vh.run("prep")
    vh.ended()

    assert "0B" in vh("data", "list").out


def test_an_input_on_demand_is_fetched_when_the_run_asks_for_it(anywhere: VhHome) -> None:
    vh = anywhere
    vh.run("prep")
    blob = next(datum for datum in vh.server.outputs(vh.ended()) if datum["name"] == "deep/blob.bin")

    vh.run("on-demand", f"--big=datum://{blob['id']}")

    assert vh.output(vh.ended(), "copy.bin") == BLOB


def test_a_script_at_home_gets_an_alias_by_the_logged_in_client(vh: VhHome, tmp_path: Path) -> None:
    vh.run("properties")
    model = next(datum for datum in vh.server.outputs(vh.ended()) if datum["name"] == "model.bin")
    script = vh.folder / "local.py"
    script.write_text(
        "import sys, valohai\n"
        "valohai.prepare(step='local', default_inputs={'m': sys.argv.pop()})\n"
        "print('found', valohai.inputs('m').path())\n"
    )

    for name in ("model-prod", model["id"]):
        ran = subprocess.run(
            [str(CLIENTS / "python"), str(script), f"datum://{name}"],
            cwd=vh.folder,
            env=vh.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert ran.returncode == 0, ran.stderr
        found = next(line.split(" ", 1)[1] for line in ran.stdout.splitlines() if line.startswith("found "))
        path = vh.folder / found
        assert hashlib.sha256(path.read_bytes()).hexdigest() == model["sha256"]
        path.unlink()


def test_a_result_leads_back_to_its_run_its_code_and_its_inputs(vh: VhHome) -> None:
    vh.run("prep")
    first = vh.ended()
    source = next(datum for datum in vh.server.outputs(first) if datum["name"] == "data.csv")

    vh.run("collect", f"--files=datum://{source['id']}")

    second = vh.ended()
    result = vh.server.outputs(second)[0]
    made_by = vh.server.get(f"/api/v0/data/{result['id']}/")["output_execution"]
    assert made_by["id"] == second["id"]
    run = vh.server.get(f"/api/v0/executions/{made_by['id']}/")
    commit = vh.server.get(f"/api/v0/commits/{run['commit']['identifier']}/?project={vh.project}&include=config")
    assert commit["adhoc"]
    assert {"prep", "collect"} <= {item["step"]["name"] for item in commit["config"] if "step" in item}
    given = run["inputs"][0]["urls"][0].removeprefix("datum://")
    assert given == source["id"]
    assert vh.server.get(f"/api/v0/data/{given}/")["output_execution"]["id"] == first["id"]
    assert result["sha256"] == hashlib.sha256(vh.server.content(result)).hexdigest()
