"""Objects on the disk, by signed URLs: exactly what was signed, and nothing else."""

from __future__ import annotations

import io

import pytest

from lamplighter.errors import NotFound
from tests.functions.conftest import House

CONTENT = bytes(range(256)) * 4096
KEY = "data/a b/é.bin"


def _path(url: str) -> str:
    return url.removeprefix("https://lamplighter.test")


@pytest.fixture
def signed(house: House) -> str:
    house.disk.put(KEY, io.BytesIO(CONTENT), size=len(CONTENT))
    return _path(house.disk.presign_get(KEY, seconds=60, filename='mo"del.bin').url)


def test_the_whole_object_is_given_as_an_attachment(house: House, signed: str) -> None:
    reply = house.stranger.get(signed)

    assert (reply.status, reply.raw == CONTENT) == (200, True)
    assert reply.headers["content-disposition"].startswith("attachment; ")
    assert reply.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, len(CONTENT)),
        ("bytes=-10", len(CONTENT) - 10, len(CONTENT)),
        (f"bytes=5-{10**12}", 5, len(CONTENT)),
    ],
)
def test_a_range_is_given_exactly(house: House, signed: str, asked: str, start: int, end: int) -> None:
    reply = house.stranger.get(signed, headers={"range": asked})

    assert (reply.status, reply.raw) == (206, CONTENT[start:end])
    assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-9", "lines=1-2", "bytes=-", "bytes=9-1", "bytes=a-b"])
def test_a_range_that_cannot_be_read_gives_everything(house: House, signed: str, asked: str) -> None:
    reply = house.stranger.get(signed, headers={"range": asked})

    assert (reply.status, len(reply.raw)) == (200, len(CONTENT))


def test_a_range_behind_the_end_is_refused(house: House, signed: str) -> None:
    reply = house.stranger.get(signed, headers={"range": f"bytes={len(CONTENT)}-"})

    assert reply.status == 416
    assert reply.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_head_tells_the_size_without_the_bytes(house: House, signed: str) -> None:
    reply = house.stranger.call("HEAD", signed)

    assert (reply.status, reply.headers["content-length"], reply.raw) == (200, str(len(CONTENT)), b"")


CHANGES = [("b/", "c/"), ("expires=", "expires=9"), ("method=GET", "method=PUT"), ("filename=mo", "filename=no")]


@pytest.mark.parametrize("change", CHANGES)
def test_a_url_that_was_changed_opens_nothing(house: House, signed: str, change: tuple[str, str]) -> None:
    reply = house.stranger.get(signed.replace(*change))

    assert reply.status == 403
    assert reply.json["code"] == "forbidden"


def test_a_url_works_for_its_own_method_only(house: House, signed: str) -> None:
    assert house.stranger.call("PUT", signed, body=b"x").status == 403
    assert house.stranger.call("DELETE", signed).status == 405
    assert house.stranger.get("/objects/data/a").status == 403


def test_bytes_are_put_once_and_never_replaced(house: House) -> None:
    target = _path(house.disk.presign_put("data/new", seconds=60, size=len(CONTENT)).url)

    first = house.stranger.call("PUT", target, chunks=[CONTENT[:7], CONTENT[7:]])
    again = house.stranger.call("PUT", target, body=CONTENT)

    assert (first.status, again.status) == (201, 409)
    assert b"".join(house.disk.get("data/new")) == CONTENT


@pytest.mark.parametrize("size", [0, len(CONTENT) - 1, len(CONTENT) + 1])
@pytest.mark.parametrize("announced", [True, False])
def test_another_size_than_the_signed_one_is_refused(house: House, size: int, announced: bool) -> None:
    target = _path(house.disk.presign_put("data/new", seconds=60, size=len(CONTENT)).url)
    body = (CONTENT + b"more")[:size]

    reply = house.stranger.call("PUT", target, **({"body": body} if announced else {"chunks": [body]}))

    assert reply.status in (400, 413)
    with pytest.raises(NotFound):
        house.disk.head("data/new")


def test_an_uploader_that_goes_away_leaves_nothing(house: House) -> None:
    target = _path(house.disk.presign_put("data/new", seconds=60, size=len(CONTENT)).url)

    house.stranger.call("PUT", target, chunks=[CONTENT[:100], CONTENT[100:]], leave_after=1)

    with pytest.raises(NotFound):
        house.disk.head("data/new")


def test_a_download_is_offered_on_the_host_that_the_client_used(house: House) -> None:
    from lamplighter.usecases.people import authenticate
    from tests.functions.conftest import PASSWORD

    assert PASSWORD
    principal = authenticate(house.admin.token or "", world=house.world)
    project = house.project()["id"]
    datum_id = _a_datum(house, principal.organisation_id, project)

    url = house.admin.get(f"/api/v0/data/{datum_id}/download/").json["url"]

    assert url.startswith("http://ml.example:8000/objects/")
    assert house.stranger.get(url.removeprefix("http://ml.example:8000")).raw == CONTENT


def _a_datum(house: House, organisation_id: str, project_id: str) -> str:
    from lamplighter import keys
    from lamplighter.domain.data import Datum
    from lamplighter.records import new

    house.disk.put("data/d1", io.BytesIO(CONTENT), size=len(CONTENT))
    datum = Datum(
        id=house.world.new_id(),
        organisation_id=organisation_id,
        project_id=project_id,
        name="model.bin",
        size=len(CONTENT),
        store="default",
        object_key="data/d1",
        uri="memory://default/data/d1",
        ctime=house.world.now(),
        stored=True,
    )
    pointer = {"datum_id": datum.id}
    house.world.metadata.transact(
        [new(keys.datum(datum.id), datum), new(keys.datum_in_project(project_id, datum.id), pointer)]
    )
    return datum.id
