"""Running a step from a folder: upload, list, look, stop, delete."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.e2e.api import until
from tests.e2e.vh import VhHome


def test_a_folder_is_uploaded_once_and_run_as_often_as_wanted(vh: VhHome) -> None:
    first = vh("exec", "run", "--adhoc", "prep").out
    again = vh("exec", "run", "--adhoc", "prep").out

    uploaded = re.search(r"Uploaded ad-hoc code (~[0-9a-f]{64})", first)
    assert uploaded, first
    assert "Execution #1 created" in first
    assert f"Ad-hoc code {uploaded.group(1)} already uploaded" in again
    assert "Execution #2 created" in again
    commits = vh.server.get(f"/api/v0/commits/?project={vh.project}")["results"]
    assert [commit["identifier"] for commit in commits] == [uploaded.group(1)]
    for counter in (1, 2):
        assert vh.ended(counter)["commit"]["identifier"] == uploaded.group(1)


def test_executions_are_listed_by_status_owner_and_number(vh: VhHome) -> None:
    for _ in range(2):
        vh.run("prep")
    vh.run("prep", "--image", "lamplighter/python-utils:3.11", "-t", "the third")
    (vh.folder / "prep.py").write_text("raise SystemExit(3)\n")
    vh.run("prep")
    for counter in (1, 2, 3):
        vh.ended(counter)
    failed = vh.ended(4, status="error")
    vh("exec", "delete", "1")

    def listed(*words: str) -> list[int]:
        return [row["counter"] for row in vh.table("exec", "list", *words)]

    assert failed["exit_code"] == 3
    assert listed() == [4, 3, 2]
    assert listed("--status", "complete") == [3, 2]
    assert listed("--status", "complete", "--status", "error") == [4, 3, 2]
    assert listed("-n", "1") == [4]
    assert listed("--owned") == [4, 3, 2]
    assert listed("--deleted") == [1]
    assert "prep" in vh("exec", "list").out


def test_an_execution_is_described_and_summarised(vh: VhHome) -> None:
    counter = vh.run("train", "--lr=0.5", "--tag", "demo", "--title", "A try")
    vh.run("prep")
    vh.ended(counter)
    vh.ended()

    described = vh("exec", "info", str(counter)).out
    latest = vh("exec", "info", "latest").out
    summary = vh("--table-format", "csv", "exec", "summarize", "1-2").stdout

    assert "complete" in described
    assert "A try" in described
    assert re.search(r"lr\W+0\.5", described)
    assert "prep" in latest
    header, first, second = summary.strip().splitlines()[-3:]
    assert header.split(",")[0] == "Execution"
    assert "rows" in header
    assert first.startswith("1,")
    assert second.startswith("2,")
    assert second.split(",")[header.split(",").index("rows")] == "2"


def test_the_log_shows_times_and_text_and_hides_what_is_not_wanted(vh: VhHome) -> None:
    vh.run("prep")
    vh.ended()

    everything = vh("exec", "logs", "1").out
    quiet = vh("exec", "logs", "--no-stdout", "1").out

    assert re.search(r"^\d\d:\d\d:\d\d\.\d\d\d?Z? preparing$", everything, re.M), everything
    assert re.search(r"^\S+ a word of warning$", everything, re.M)
    assert "preparing" not in quiet
    assert "a word of warning" in quiet


def test_the_log_is_streamed_while_the_run_goes_on_and_ends_with_the_last_line(anywhere: VhHome) -> None:
    vh = anywhere
    vh.run("slow", "--seconds=6")
    vh.started()

    stream = vh.popen("exec", "logs", "--stream", "latest")
    assert stream.stdout is not None
    lines = []
    for line in stream.stdout:
        lines.append(line.rstrip("\n"))
        if line.endswith(" line 1\n"):
            break
    seen_at = vh.execution()["status"]
    # Read on from where we stopped: `communicate` would lose what is buffered already.
    lines += [line.rstrip("\n") for line in stream.stdout]

    assert stream.wait(timeout=60) == 0
    assert seen_at == "started"
    assert "The execution has finished" in lines[-1]
    assert any(line.endswith(" last line") for line in lines)
    numbered = [line for line in lines if re.search(r" line \d+$", line)]
    assert len(numbered) == len(set(numbered)) == int(vh.output(vh.execution(), "late.txt"))


def test_ten_thousand_lines_are_all_there_once_equal_ones_too(anywhere: VhHome) -> None:
    vh = anywhere
    vh.run("many-lines")
    vh.ended()

    said = [line.split(" ", 1)[1] for line in vh("exec", "logs", "--all", "--no-status", "1").stdout.splitlines()]

    assert said == ["the same" if number % 2 else f"number {number}" for number in range(10_000)]
    assert "only the last" in vh("exec", "logs", "1").out


def test_a_run_gets_the_parameters_inputs_and_variables_of_the_command_line(anywhere: VhHome, web: str) -> None:
    vh = anywhere
    words = ["--lr=0.5", "--layers=a b", "--layers=c", f"--images={web}/first.txt", f"--images={web}/second.txt"]

    vh.run("train", *words, "-v", "A=1", "--tag", "t", "--title", "T")

    ended = vh.ended()
    seen = json.loads(vh.output(ended, "seen.json"))
    assert seen["parameters"] == {"lr": 0.5, "steps": 10, "label": None, "verbose": True, "layers": ["a b", "c"]}
    assert seen["arguments"] == ["--lr=0.5", "--steps=10", "--verbose", "--layers=a b", "--layers=c"]
    assert seen["inputs"] == {"images/first.txt": "the first", "images/second.txt": "the second"}
    assert [file["name"] for file in seen["described"]["images"]["files"]] == ["first.txt", "second.txt"]
    assert seen["variables"]["A"] == "1"
    assert seen["variables"]["VH_EXECUTION_ID"] == ended["id"]
    assert seen["variables"]["VH_JOB_ID"] == f"exec-{ended['id']}"
    assert seen["variables"]["VALOHAI_PORT"] is None
    names = ("api", "execution", "inputs", "parameters", "runtime")
    assert set(seen["config"]) >= {f"{name}.{kind}" for name in names for kind in ("json", "yaml")}
    assert seen["execution"]["valohai.execution-counter"] == 1
    assert seen["execution"]["valohai.execution-title"] == "T"
    said = vh("exec", "info", "1").out
    assert f"{web}/first.txt; {web}/second.txt" in said
    assert ended["tags"] == ["t"]
    assert ended["title"] == "T"


def test_numbers_keep_their_kind(vh: VhHome) -> None:
    vh.run("train", "--lr=2", "--steps=3")

    text = vh.output(vh.ended(), "seen.json").decode()

    assert '"lr": 2.0' in text
    assert '"steps": 3' in text


def test_a_required_parameter_that_is_missing_is_named(vh: VhHome) -> None:
    said = vh("exec", "run", "--adhoc", "demanding", fails=True).out

    assert "rate" in said
    assert "Traceback" not in said
    assert vh.server.get(f"/api/v0/executions/?project={vh.project}")["results"] == []


def test_an_unknown_kind_of_machine_is_refused_with_a_hint(vh: VhHome) -> None:
    said = vh("exec", "run", "--adhoc", "-e", "nope", "train", fails=True).out

    assert "nope" in said
    assert "vh environments" in said


def test_a_run_is_stopped_and_stopping_an_ended_one_is_no_error(vh: VhHome) -> None:
    for _ in range(4):
        vh.run("slow")
    vh.started(1)

    one = vh("exec", "stop", "1").out
    latest = vh("exec", "stop", "latest").out
    everything = vh("exec", "stop", "--all").out

    for said in (one, latest, everything):
        assert "Done." in said
    for counter in (1, 2, 3, 4):
        vh.ended(counter, status="stopped")
    assert "Done." in vh("exec", "stop", "1").out
    assert "Done." in vh("exec", "stop", "latest").out


def test_a_stopped_run_keeps_what_it_had_written(anywhere: VhHome) -> None:
    vh = anywhere
    vh.run("slow")
    started = vh.started()
    until(lambda: "line 3" in vh.server.events(started), "the run has written")

    vh("exec", "stop", "latest")

    ended = vh.ended(status="stopped")
    assert vh.output(ended, "early.txt") == b"written at once\n"
    assert "first line" in vh.server.events(ended)


def test_executions_are_deleted_with_their_outputs(vh: VhHome) -> None:
    for _ in range(2):
        vh.run("prep")
    ended = [vh.ended(counter) for counter in (1, 2)]
    data = [datum["id"] for execution in ended for datum in execution["outputs"]]
    assert len(data) == 6

    said = vh("exec", "delete", "1-2", "--purge-outputs").out

    assert "Deleted 2 executions." in said
    assert "Execution #1 does not exist" in vh("exec", "info", "1", fails=True).out
    for datum in data:
        status, answer = vh.server.try_call("GET", f"/api/v0/data/{datum}/")
        assert status == 404 or answer["purged"], answer
        assert vh.server.try_call("GET", f"/api/v0/data/{datum}/download/")[0] >= 400


def test_a_time_limit_ends_a_run_and_its_outputs_are_kept(anywhere: VhHome) -> None:
    vh = anywhere

    vh.run("slow", "--time-limit", "3s")

    ended = vh.ended(status="error")
    assert "time limit" in ended["status_detail"]
    assert vh.output(ended, "early.txt") == b"written at once\n"


def test_a_commit_in_git_is_run_from_an_empty_folder(vh: VhHome, tmp_path: Path) -> None:
    from tests.e2e.services import git, git_host

    (tmp_path / "bare").mkdir()
    git(tmp_path / "bare", "init", "-q", "--bare", "-b", "main", "sample.git")
    git(vh.folder, "init", "-q", "-b", "main")
    git(vh.folder, "add", "-A")
    git(vh.folder, "commit", "-q", "-m", "The first")
    git(vh.folder, "push", "-q", str(tmp_path / "bare" / "sample.git"), "main")
    sha = git(vh.folder, "rev-parse", "HEAD")
    empty = tmp_path / "empty"
    empty.mkdir()
    with git_host(tmp_path / "bare") as host:
        repository = {"url": f"{host}/sample.git", "ref": "main"}
        vh.server.call("PATCH", f"/api/v0/projects/{vh.project}/", {"repository": repository})

        fetched = vh("project", "fetch").out
        remote = {"VALOHAI_PROJECT": vh.project, "VALOHAI_PROJECT_MODE": "remote"}
        said = vh("exec", "run", "prep", env=remote, folder=empty).out

    assert sha[:6] in fetched
    assert "in remote mode" in said
    assert "Execution #1 created" in said
    ended = vh.ended()
    assert ended["commit"] == {"identifier": sha, "adhoc": False}
    assert sha in vh("project", "commits").out
    assert "Execution #2 created" in vh("exec", "run", "-c", sha[:6], "prep").out
    assert vh.ended(2)["commit"]["identifier"] == sha
