"""Archives on their way in: taken apart, hashed and bounded while they arrive."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random

import pytest

from functions.asgi import Application
from functions.parcels import MAX_TEXT_BYTES
from lamplighter.world import Installation
from tests.doubles import TRAIN_YAML, targz
from tests.functions.asgi_client import Client
from tests.functions.conftest import BOUNDARY, House, package, pieces

ARCHIVE = targz({"valohai.yaml": TRAIN_YAML})
KIND = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.mark.parametrize("order", list(itertools.permutations(("data", "description", "yaml_path"))))
def test_the_parts_may_come_in_any_order_and_cut_anywhere(house: House, order: tuple[str, ...]) -> None:
    project = house.project()["id"]

    reply = house.admin.call(
        "POST",
        f"/api/v0/projects/{project}/import-package/",
        chunks=pieces(package(ARCHIVE, order=order), 7),
        headers=KIND,
    )

    assert reply.status == 201, reply.body
    assert reply.json["identifier"] == "~" + hashlib.sha256(ARCHIVE).hexdigest()
    assert (reply.json["adhoc"], reply.json["description"]) == (True, "heads/main-0-gabc")


def test_an_uploaded_commit_is_found_by_its_hash_with_and_without_a_project(house: House) -> None:
    project = house.project()["id"]
    identifier = house.commit(project)["identifier"]

    within = house.admin.get(f"/api/v0/commits/{identifier.replace('~', '%7E')}/?project={project}")
    anywhere = house.admin.get(f"/api/v0/commits/{identifier}/?include=config")

    assert within.json["adhoc"] is True
    assert anywhere.json["config"][0]["step"]["name"] == "train"
    assert house.admin.get(f"/api/v0/projects/{project}/commits/").json[0]["identifier"] == identifier


def test_nothing_is_left_behind_after_an_upload(house: House) -> None:
    house.commit(house.project()["id"])

    assert list(house.uploads.iterdir()) == []


def test_a_client_that_goes_away_leaves_nothing(house: House) -> None:
    project = house.project()["id"]
    noise = targz({"valohai.yaml": TRAIN_YAML, "x": random.Random(1).randbytes(20_000)})

    reply = house.upload(project, noise, leave_after=1)

    assert reply.status == 0
    assert list(house.uploads.iterdir()) == []


def test_an_archive_over_the_limit_is_refused_with_the_limit_in_the_message(house: House) -> None:
    world_limit = Installation(id="i", url="https://lamplighter.test", max_upload_bytes=4 * 1024 * 1024)
    world = dataclasses.replace(house.world, installation=world_limit)
    application = Application(world, upload_folder=house.uploads)
    client = Client(application, house.admin.token)
    project = house.project()["id"]
    chunks = pieces(package(b"x" * (5 * 1024 * 1024)), 256 * 1024)

    streamed = client.call("POST", f"/api/v0/projects/{project}/import-package/", chunks=chunks, headers=KIND)
    announced = client.call(
        "POST",
        f"/api/v0/projects/{project}/import-package/",
        body=b"",
        headers={**KIND, "content-length": str(9 * 1024 * 1024)},
    )
    application.close()

    assert (streamed.status, announced.status) == (413, 413)
    assert "4 MiB" in streamed.json["message"]
    assert list(house.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (package(ARCHIVE)[:-20], "non_field_errors"),
        (b"no multipart at all", "non_field_errors"),
        (package(ARCHIVE, order=("description",)), "data"),
        (package(b"this is no archive"), "data"),
        (package(targz({"valohai.yaml": b"not: [a list"})), "yaml"),
        (package(ARCHIVE).replace(b"heads/main-0-gabc", b"\xff" * 20), "description"),
        (package(ARCHIVE).replace(b"heads/main-0-gabc", b"x" * (MAX_TEXT_BYTES + 1)), "description"),
    ],
)
def test_a_broken_upload_is_refused_with_what_is_wrong(house: House, body: bytes, field: str) -> None:
    project = house.project()["id"]

    reply = house.admin.call("POST", f"/api/v0/projects/{project}/import-package/", body=body, headers=KIND)

    assert (reply.status, list(reply.json)) == (400, [field])
    assert list(house.uploads.iterdir()) == []


def test_an_upload_that_is_no_multipart_is_refused(house: House) -> None:
    project = house.project()["id"]

    reply = house.admin.call("POST", f"/api/v0/projects/{project}/import-package/", {"data": "x"})

    assert reply.status == 415


def test_an_upload_into_a_project_that_is_not_there_is_not_kept(house: House) -> None:
    reply = house.upload("019b8d58-2400-7000-8000-0000000fffff", ARCHIVE)

    assert reply.status == 404
    assert list(house.uploads.iterdir()) == []
