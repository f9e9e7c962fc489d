"""Executions through the door, as `vh` and its relatives ask for them."""

from __future__ import annotations

import pytest

from tests.functions.conftest import House

DETAIL = (
    "commit counter creator_id creator_name ctime qtime start_time end_time mtime duration deleted "
    "is_pinned n_alerts n_comments n_outputs id title tags task_tags pipeline_tags step step_icon status "
    "status_detail priority project environment image command interpolated_command environment_variables "
    "runtime_config stop_expression parameters parameter_categories inputs outputs cumulative_metadata "
    "task task_counter pipeline pipeline_counter executor_identity price emissions url urls "
)


def test_the_detail_has_every_key_that_a_client_knows(house: House) -> None:
    project = house.project()["id"]
    made = house.execution(project, parameters={"epochs": None}, tags=["demo"], title="try 1")

    found = house.admin.get(f"/api/v0/executions/{project}:latest/?exclude=metadata, events").json

    assert set(DETAIL.split()) <= set(found)
    assert (found["id"], found["counter"], found["status"]) == (made["id"], 1, "queued")
    assert found["parameters"] == {"epochs": 5}
    assert found["environment"]["name"] == "Local"
    assert found["url"].endswith(f"/api/v0/executions/{made['id']}/")
    assert set(found["urls"]) == {"display", "stop", "copy", "copy_to_task"}
    assert found["status_detail"].startswith("Waiting: ")


def test_the_list_is_filtered_by_repeated_keys_in_any_case(house: House) -> None:
    project = house.project()["id"]
    for _ in range(3):
        house.execution(project)
    house.admin.post(f"/api/v0/executions/{project}:2/stop/")
    house.admin.call("DELETE", f"/api/v0/executions/{project}:3/")

    def counters(query: str) -> list[int]:
        rows = house.admin.get(f"/api/v0/executions/?project={project}&{query}").json["results"]
        return [row["counter"] for row in rows]

    assert counters("limit=9001&ordering=-counter&deleted=false") == [2, 1]
    assert counters("status=incomplete&ordering=counter") == [1]
    assert counters("status=incomplete&status=stopped") == [2, 1]
    assert counters("counter=1&counter=3") == [1]
    assert counters("deleted=True") == [3]
    assert counters("creator=<none>") == []
    assert counters("step=jupyter_execution") == []


def test_stopping_answers_a_sentence_even_when_it_is_over(house: House) -> None:
    project = house.project()["id"]
    stop = house.execution(project)["urls"]["stop"].removeprefix("http://ml.example:8000")

    first, again = house.admin.post(stop), house.admin.post(stop)

    assert (first.status, again.status) == (200, 200)
    assert first.headers["content-type"].startswith("text/plain")
    assert b"#1" in first.body
    assert b"already ended" in again.body


def test_an_unknown_environment_is_told_with_its_code(house: House) -> None:
    project = house.project()["id"]
    commit = house.commit(project)["identifier"]

    order = {"project": project, "commit": commit, "step": "train", "environment": "gpu-x"}
    reply = house.admin.post("/api/v0/executions/", order)

    assert reply.status == 400
    assert reply.json["environment"][0]["code"] == "does_not_exist"


def test_the_same_idempotency_key_makes_one_execution(house: House) -> None:
    project = house.project()["id"]
    order = {"project": project, "commit": house.commit(project)["identifier"], "step": "train"}
    headers = {"idempotency-key": "once"}

    ids = [house.admin.call("POST", "/api/v0/executions/", order, headers=headers).json["id"] for _ in range(2)]

    assert ids[0] == ids[1]


def test_a_deleted_execution_does_not_exist(house: House) -> None:
    project = house.project()["id"]
    house.execution(project)
    house.admin.call("DELETE", f"/api/v0/executions/{project}:1/")

    reply = house.admin.get(f"/api/v0/executions/{project}:1/")

    assert (reply.status, reply.json["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("part", "keys"),
    [
        ("events/?limit=0", {"total", "truncated", "limit", "events"}),
        ("status-events/?limit=100", {"total", "truncated", "limit", "status_events"}),
        ("explain/", {"status", "reasons"}),
        ("outputs/", {"count", "next", "previous", "results"}),
    ],
)
def test_the_parts_of_an_execution_have_their_shapes(house: House, part: str, keys: set[str]) -> None:
    url = house.execution(house.project()["id"])["url"].removeprefix("http://ml.example:8000")

    found = house.admin.get(url + part).json

    assert set(found) == keys


def test_tags_are_replaced(house: House) -> None:
    url = house.execution(house.project()["id"])["url"].removeprefix("http://ml.example:8000")

    house.admin.post(url + "tags/", {"tags": ["a", "b"]})

    assert house.admin.get(url).json["tags"] == ["a", "b"]


def test_a_notebook_is_an_execution(house: House) -> None:
    order = {"project": house.project()["id"], "environment": "PROJECT_DEFAULT", "image": "jupyter/minimal-notebook"}

    reply = house.admin.post("/api/v0/notebook-executions/", order)

    assert reply.status == 201, reply.body
    assert set(reply.json) >= {"counter", "urls"}


def test_secret_variables_are_never_shown(house: House) -> None:
    project = house.project()["id"]
    path = f"/api/v0/projects/{project}/environment_variable/"
    house.admin.post(path, {"name": "KEY", "value": "hush", "secret": True})
    house.admin.post(path, {"name": "MODE", "value": "dev", "secret": False})

    shown = house.admin.get(f"/api/v0/projects/{project}/").json["environment_variables"]
    execution = house.execution(project)

    assert shown == {"KEY": {"value": None, "secret": True}, "MODE": {"value": "dev", "secret": False}}
    assert execution["environment_variables"] == {"KEY": None, "MODE": "dev"}
    assert house.admin.call("DELETE", path, {"name": "KEY"}).status == 200
