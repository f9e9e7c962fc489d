"""The shapes that clients depend on: errors, pages, addresses, spellings of paths."""

from __future__ import annotations

import gzip
import json

import pytest

from adapters.aws.patience import NotSent, Refused
from functions.asgi import MAX_JSON_BYTES
from functions.failures import answer_for
from lamplighter import errors
from tests.functions.conftest import House


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            errors.Invalid(
                {"environment": [("No such environment.", "does_not_exist")], "parameters.lr": ["Too high."]}
            ),
            400,
            {
                "environment": [{"message": "No such environment.", "code": "does_not_exist"}],
                "parameters": {"lr": ["Too high."]},
            },
        ),
        (
            errors.Invalid({"parameters": ["No."], "parameters.a.b": ["Bad."]}),
            400,
            {"parameters": {"non_field_errors": ["No."], "a.b": ["Bad."]}},
        ),
        (errors.NotAuthenticated("Who?"), 401, {"detail": "Who?", "code": "not_authenticated"}),
        (errors.Forbidden("No."), 403, {"detail": "No.", "code": "forbidden"}),
        (errors.NotFound("Gone."), 404, {"detail": "Gone.", "code": "not_found"}),
        (errors.Conflict("Twice."), 409, {"message": "Twice.", "code": "conflict"}),
        (errors.StaleEpoch("Old."), 409, {"message": "Old.", "code": "stale_epoch"}),
        (errors.TooLarge("Big."), 413, {"message": "Big.", "code": "too_large"}),
        (errors.Throttled("Slow."), 429, {"message": "Slow.", "code": "throttled"}),
        (errors.Unavailable("Later."), 503, {"message": "Later.", "code": "unavailable"}),
    ],
)
def test_every_explained_failure_has_its_status_and_shape(error: Exception, status: int, body: object) -> None:
    answer = answer_for(error)

    assert (answer.status, json.loads(answer.body)) == (status, body)
    assert ("Retry-After" in answer.headers) == (status in (429, 503))


@pytest.mark.parametrize("name", ["Refused", "NotSent"])
def test_a_failure_that_an_adapter_has_derived_is_told_as_what_it_derives_from(name: str) -> None:
    error = {"NotSent": NotSent("Not there."), "Refused": Refused("Reading", "InternalServerError", "Oops", {})}[name]

    answer = answer_for(error)

    assert (answer.status, json.loads(answer.body)["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_gap_in_the_events_says_where_to_go_on() -> None:
    answer = answer_for(errors.SequenceGap(17), worker=True)

    assert json.loads(answer.body)["expected"] == 17


def test_a_fault_of_our_own_is_told_without_details(caplog: pytest.LogCaptureFixture) -> None:
    answer = answer_for(ZeroDivisionError("the secret recipe"))

    told = json.loads(answer.body)
    assert answer.status == 500
    assert "recipe" not in answer.body.decode()
    assert told["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_wrong_password_is_told_as_a_message(house: House) -> None:
    reply = house.stranger.call(
        "POST",
        "/api/v0/get-token/",
        body=b"username=admin&password=wrong",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )

    assert reply.status == 400
    assert reply.json["non_field_errors"][0]["message"]


def test_a_missing_field_is_named(house: House) -> None:
    reply = house.admin.post("/api/v0/projects/", {})

    assert (reply.status, reply.json) == (400, {"name": ["This field is required."]})


def test_an_unknown_path_is_told_as_json_and_not_as_a_page(house: House) -> None:
    reply = house.admin.get("/api/v0/pipelines/")

    assert reply.status == 404
    assert set(reply.json) == {"detail", "code"}


def test_another_method_is_refused_with_those_that_are_possible(house: House) -> None:
    reply = house.admin.call("DELETE", "/api/v0/projects/")

    assert reply.status == 405
    assert reply.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"name": "x"', "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'["a"]', "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"name": "\\ud800"}', "application/json", 400),
        (b"name=%ff", "application/x-www-form-urlencoded", 400),
        (b"<name/>", "application/xml", 415),
        (b" " * (MAX_JSON_BYTES + 1), "application/json", 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_a_reason(house: House, body: bytes, kind: str, status: int) -> None:
    reply = house.admin.call("POST", "/api/v0/projects/", body=body, headers={"content-type": kind})

    assert reply.status == status
    assert reply.json


def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(house: House) -> None:
    chunk = b" " * 1024 * 1024

    reply = house.admin.call("POST", "/api/v0/projects/", chunks=[chunk] * 40)

    assert reply.status == 413
    assert "8 MiB" in reply.json["message"]
    assert house.admin.read[-1] < 16


def test_headers_beyond_reason_are_refused(house: House) -> None:
    reply = house.admin.get("/api/v0/projects/", headers={"x-long": "x" * 40_000})

    assert reply.status == 400


def test_every_address_starts_with_the_host_that_the_client_used(house: House) -> None:
    house.admin.host = "other.name:444"
    made = house.project()
    for name in ("two", "three"):
        house.project(name)

    page = house.admin.get("/api/v0/projects/?limit=2&ordering=x").json

    assert made["url"] == f"http://other.name:444/api/v0/projects/{made['id']}/"
    assert made["urls"]["display"] == "http://other.name:444/p/admin/mnist/"
    assert page["next"] == "http://other.name:444/api/v0/projects/?ordering=x&limit=2&offset=2"


def test_a_proxy_is_not_believed_unless_there_is_one(house: House) -> None:
    reply = house.admin.get("/api/v0/users/login_link/", headers={"x-forwarded-host": "evil.example"})

    assert reply.json["url"] == "http://ml.example:8000/"


def test_a_host_header_that_is_none_is_refused(house: House) -> None:
    reply = house.admin.get("/api/v0/users/login_link/", headers={"host": 'x"><script>'})

    assert (reply.status, set(reply.json)) == (400, {"host"})


def test_slashes_at_the_end_or_doubled_make_no_difference(house: House) -> None:
    project = house.project()["id"]
    paths = [
        f"/api/v0/projects/{project}",
        f"/api/v0/projects/{project}/",
        f"/api/v0/projects/{project}//",
        "//api/v0/projects",
    ]

    statuses = [house.admin.get(path).status for path in paths]

    assert statuses == [200, 200, 200, 200]


def test_pages_follow_one_another_without_a_hole(house: House) -> None:
    names = [f"p{n}" for n in range(5)]
    for name in names:
        house.project(name)
    seen, path = [], "/api/v0/projects/?limit=2"

    while path:
        page = house.admin.get(path).json
        seen += [row["name"] for row in page["results"]]
        path = page["next"].removeprefix("http://ml.example:8000") if page["next"] else ""

    assert seen == names
    assert page["count"] == 5
    assert page["previous"] == "http://ml.example:8000/api/v0/projects/?limit=2&offset=2"


def test_a_large_limit_is_honoured_and_odd_query_fields_are_ignored(house: House) -> None:
    house.project()

    reply = house.admin.get("/api/v0/projects/?limit=999999999999&no_count=true&exclude=metadata, events&x=1&x=2")

    assert (reply.status, len(reply.json["results"])) == (200, 1)


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "offset=-5", "offset=1.5"])
def test_a_limit_that_is_no_number_is_named(house: House, query: str) -> None:
    reply = house.admin.get(f"/api/v0/projects/?{query}")

    assert (reply.status, set(reply.json)) == (400, {query.split("=")[0]})


def test_large_answers_are_compressed_for_clients_that_can(house: House) -> None:
    for number in range(5):
        house.project(f"p{number}")

    plain = house.admin.get("/api/v0/projects/")
    small = house.admin.get("/api/v0/projects/", headers={"accept-encoding": "gzip, deflate"})

    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(small.raw) == plain.raw


def test_answers_forbid_browsers_to_guess_or_to_run_anything(house: House) -> None:
    reply = house.admin.get("/api/v0/projects/")

    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/", "/auth/tokens/", "/p/ada/mnist/", "/p/ada/mnist/execution/1/"])
def test_addresses_that_clients_print_open_a_page(house: House, path: str) -> None:
    reply = house.stranger.get(path)

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in reply.headers["content-security-policy"]
    assert b"<script>" not in reply.body


@pytest.mark.parametrize("path", ["/web/../functions/asgi.py", "/web/index.html/x", "/favicon.ico", "/etc/passwd"])
def test_no_other_file_is_served(house: House, path: str) -> None:
    assert house.stranger.get(path).status == 404
