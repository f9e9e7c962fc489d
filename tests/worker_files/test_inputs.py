"""Inputs lie where `inputs.json` says, and are what it says."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lamplighter_worker.cache import Cache
from lamplighter_worker.inputs import fetch_inputs
from lamplighter_worker.transfer import Patience

from lamplighter.contract.job import Call, Input, InputFile
from lamplighter.errors import Forbidden, Invalid, LamplighterError, NotFound, StaleEpoch
from tests.worker_files.server import QUICK, Answer, Server


def a_file(path: str, call: Call | None, **changes: Any) -> InputFile:
    return InputFile(name=path.rpartition("/")[2], path=path, uri=f"s3://bucket/{path}", call=call, **changes)


def an_input(*files: InputFile, name: str = "images") -> Input:
    return Input(name, f"id-{name}", files)


def no_refresh() -> tuple[Input, ...]:
    raise AssertionError("nothing has expired")


def fetch(tmp_path: Path, *inputs: Input, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "directory": tmp_path / "inputs",
        "cache": None,
        "networks": "any",
        "refresh": no_refresh,
        "phase": lambda text: None,
        "say": lambda text: None,
        "patience": QUICK,
    }
    return fetch_inputs(inputs, **{**options, **changes})


def hashes(content: bytes) -> dict[str, str]:
    return {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha1", "sha256")}


def test_files_arrive_and_are_described(server: Server, tmp_path: Path) -> None:
    wanted = a_file("a.zip", server.get("/a", b"content"), datum_id="d00d", metadata=({"split": "train"},), size=7)

    said = fetch(tmp_path, an_input(wanted), visible_directory="/valohai/inputs")

    assert (tmp_path / "inputs/images/a.zip").read_bytes() == b"content"
    assert said == {
        "images": {
            "input_id": "id-images",
            "files": [
                {
                    "name": "a.zip",
                    "path": "/valohai/inputs/images/a.zip",
                    "uri": "s3://bucket/a.zip",
                    "size": 7,
                    "checksums": hashes(b"content"),
                    "metadata": [{"split": "train"}],
                    "datum_id": "d00d",
                }
            ],
        }
    }


def test_paths_are_the_real_ones_where_user_code_sees_those(server: Server, tmp_path: Path) -> None:
    said = fetch(tmp_path, an_input(a_file("deep/down/a", server.get("/a", b"1"))))

    path = Path(said["images"]["files"][0]["path"])
    assert path == tmp_path / "inputs/images/deep/down/a"
    assert path.read_bytes() == b"1"


def test_files_on_demand_are_only_described(tmp_path: Path) -> None:
    said = fetch(tmp_path, an_input(a_file("b.bin", None, size=99999), name="big"))

    assert said["big"] == {
        "input_id": "id-big",
        "files": [{"name": "b.bin", "path": None, "uri": "s3://bucket/b.bin", "size": 99999}],
    }


def test_an_empty_input_has_its_directory(tmp_path: Path) -> None:
    assert fetch(tmp_path, an_input()) == {"images": {"input_id": "id-images", "files": []}}
    assert (tmp_path / "inputs/images").is_dir()


def test_many_files_arrive_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    files = [a_file(f"{n}", server.get(f"/{n}", str(n).encode())) for n in range(60)]
    phases: list[str] = []

    fetch(tmp_path, an_input(*files[:30]), an_input(*files[30:], name="more"), phase=phases.append)

    assert phases[-1] == "fetching inputs: 60 of 60"
    assert [(tmp_path / "inputs/images" / str(n)).read_text() for n in range(30)] == [str(n) for n in range(30)]


def test_the_log_is_told_each_hindrance_once_and_progress_to_its_end(server: Server, tmp_path: Path) -> None:
    server.answers["/a"].extend([Answer(503), Answer(503), Answer(500), Answer(503)])
    server.files["/a"] = b"1"
    said: list[str] = []

    fetch(
        tmp_path,
        an_input(a_file("a", Call(f"{server.origin}/a?signature=s3cret"))),
        say=said.append,
        patience=replace(QUICK, attempts=9),
    )

    assert sorted(said) == [
        "Fetching inputs: 0 of 1",
        "Fetching inputs: 1 of 1",
        f"Input images: {server.origin}/a: answered 500 Internal Server Error, trying again",
        f"Input images: {server.origin}/a: answered 503 Service Unavailable, trying again",
    ]
    assert said[-1] == "Fetching inputs: 1 of 1"


def test_a_server_that_is_not_there_is_told_while_it_is_asked_again(tmp_path: Path) -> None:
    said: list[str] = []
    held_up: list[str] = []

    def phase(text: str) -> None:
        held_up.extend([text] if "(" in text else [])
        if len(held_up) == 4:  # longer than progress that does change may stay unsaid
            raise StaleEpoch("enough")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        with pytest.raises(StaleEpoch):
            fetch(
                tmp_path,
                an_input(a_file("a", Call(url))),
                phase=phase,
                say=said.append,
                patience=Patience(attempts=10**6, first_delay=0.01, longest_delay=0.03),
            )

    assert set(held_up) == {"fetching inputs: 0 of 1 (images: connection refused, trying again)"}
    assert sorted(said) == ["Fetching inputs: 0 of 1", f"Input images: {url}: connection refused, trying again"]


def test_a_second_run_takes_the_file_from_the_cache(server: Server, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10)
    wanted = an_input(
        a_file("a", server.get("/a", b"content"), cache_key="datum:1", checksums={"md5": hashes(b"content")["md5"]})
    )
    first = fetch(tmp_path, wanted, cache=cache)
    (tmp_path / "inputs/images/a").write_bytes(b"spoiled by the run")

    second = fetch(tmp_path, wanted, cache=cache)

    assert (tmp_path / "inputs/images/a").read_bytes() == b"content"
    assert first == second
    assert len(server.requests("/a")) == 1


def test_a_cached_file_with_another_checksum_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10)
    fetch(tmp_path, an_input(a_file("a", server.get("/a", b"old"), cache_key="k")), cache=cache)

    fetch(
        tmp_path, an_input(a_file("a", server.get("/a", b"new"), cache_key="k", checksums=hashes(b"new"))), cache=cache
    )

    assert (tmp_path / "inputs/images/a").read_bytes() == b"new"


def test_a_file_other_than_recorded_is_refused_by_name(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"input images, file a\.zip: .*sha256"):
        fetch(tmp_path, an_input(a_file("a.zip", server.get("/a", b"x"), checksums={"sha256": "0" * 64})))


@pytest.mark.parametrize("status", [401, 403, 410])
def test_expired_calls_are_replaced_by_fresh_ones_asked_for_once(server: Server, tmp_path: Path, status: int) -> None:
    old, new = [], []
    for n in range(8):
        server.answers[f"/old{n}"].extend(Answer(status) for _ in range(9))
        old.append(a_file(f"{n}", Call(f"{server.origin}/old{n}")))
        new.append(a_file(f"{n}", server.get(f"/new{n}", b"content")))
    asked: list[int] = []

    def refresh() -> tuple[Input, ...]:
        asked.append(1)
        return (an_input(*new),)

    fetch(tmp_path, an_input(*old), refresh=refresh)

    assert len(asked) == 1
    assert all((tmp_path / f"inputs/images/{n}").read_bytes() == b"content" for n in range(8))


def test_a_call_that_is_refused_for_good_is_an_error(server: Server, tmp_path: Path) -> None:
    server.answers["/a"].extend(Answer(403) for _ in range(20))
    wanted = an_input(a_file("a", Call(f"{server.origin}/a?signature=s3cret")))

    with pytest.raises(Forbidden, match="input images, file a: ") as caught:
        fetch(tmp_path, wanted, refresh=lambda: (wanted,))

    assert "s3cret" not in str(caught.value)


def test_what_refresh_raises_is_passed_on(server: Server, tmp_path: Path) -> None:
    def refresh() -> tuple[Input, ...]:
        raise StaleEpoch("another one holds the lease")

    server.answers["/a"].append(Answer(403))

    with pytest.raises(StaleEpoch):
        fetch(tmp_path, an_input(a_file("a", server.get("/a", b"1"))), refresh=refresh)


def test_a_missing_file_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"input images, file a\.zip: .* answered 404"):
        fetch(tmp_path, an_input(a_file("a.zip", Call(f"{server.origin}/a"))))


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "a/../../b", "", ".", "a//b", "a/", "a\0b", "\ud800", "a/./b"])
def test_paths_that_lead_elsewhere_are_refused(server: Server, tmp_path: Path, path: str) -> None:
    with pytest.raises(Invalid):
        fetch(tmp_path, an_input(a_file(path, server.get("/a", b"1"))))

    assert server.seen == []


@pytest.mark.parametrize("name", ["..", "a/b", "", "/", "\0"])
def test_input_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        fetch(tmp_path, an_input(name=name))


def test_a_file_below_a_file_is_refused(server: Server, tmp_path: Path) -> None:
    call = server.get("/a", b"1")

    with pytest.raises(Invalid, match="cannot have this name"):
        fetch(tmp_path, an_input(a_file("a", call)), an_input(a_file("x" * 300, call), name="more"))


def test_of_two_files_with_one_path_the_later_wins(server: Server, tmp_path: Path) -> None:
    said = fetch(tmp_path, an_input(a_file("a", server.get("/1", b"1")), a_file("a", server.get("/2", b"2"))))

    assert (tmp_path / "inputs/images/a").read_bytes() == b"2"
    assert len(said["images"]["files"]) == 1


def test_networks_are_kept_except_for_the_control_plane(server: Server, tmp_path: Path) -> None:
    wanted = an_input(a_file("a", server.get("/a", b"1")))

    with pytest.raises(Invalid, match="network"):
        fetch(tmp_path, wanted, networks="public", trusted_origin="https://control.example")
    fetch(tmp_path, wanted, networks="public", trusted_origin=server.origin)

    assert (tmp_path / "inputs/images/a").read_bytes() == b"1"


def test_what_phase_raises_ends_everything(server: Server, tmp_path: Path) -> None:
    def stop(text: str) -> None:
        raise StaleEpoch("stop")

    with pytest.raises(StaleEpoch):
        fetch(tmp_path, an_input(*(a_file(f"{n}", server.get(f"/{n}", b"1")) for n in range(20))), phase=stop)


def test_an_interrupted_fetch_may_be_repeated(server: Server, tmp_path: Path) -> None:
    good = a_file("a", server.get("/a", b"1"))
    with pytest.raises(LamplighterError):
        fetch(tmp_path, an_input(good, a_file("b", Call(f"{server.origin}/none"))))

    fetch(tmp_path, an_input(good, replace(good, path="b", name="b")))

    assert (tmp_path / "inputs/images/b").read_bytes() == b"1"
