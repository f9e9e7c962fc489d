"""Downloads and uploads arrive whole and proven, or end with an error that says what to do."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest
from lamplighter_worker.transfer import Cancelled, Changed, Transfer

from lamplighter.contract.job import Call
from lamplighter.errors import Forbidden, Invalid, LamplighterError, NotFound, Throttled, Unavailable
from tests.worker_files.server import QUICK, Answer, Server

DATA = os.urandom(3_000_000)


def quick(**options: object) -> Transfer:
    return Transfer(patience=QUICK, **options)  # type: ignore[arg-type]


def test_a_download_is_hashed_on_the_way(server: Server, tmp_path: Path) -> None:
    progress: list[tuple[int, int | None]] = []

    digest = Transfer().download(
        server.get("/a", DATA), tmp_path / "a", progress=lambda done, total: progress.append((done, total))
    )

    assert (tmp_path / "a").read_bytes() == DATA
    assert digest.size == len(DATA)
    assert digest.checksums() == {n: hashlib.new(n, DATA).hexdigest() for n in ("md5", "sha1", "sha256")}
    assert progress[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


def test_an_empty_file_is_a_file(server: Server, tmp_path: Path) -> None:
    assert quick().download(server.get("/a", b""), tmp_path / "a", size=0).size == 0
    assert (tmp_path / "a").read_bytes() == b""


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    call = server.get("/a", DATA)
    server.answers["/a"].extend([Answer(cut=1_000_000), Answer(cut=500_000), Answer(503), Answer(cut=0)])

    quick().download(call, tmp_path / "a", checksums={"sha256": hashlib.sha256(DATA).hexdigest()})

    assert (tmp_path / "a").read_bytes() == DATA
    ranges = [request.headers.get("Range") for request in server.requests("/a")]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-", "bytes=1500000-", "bytes=1500000-"]


def test_a_long_download_may_break_more_often_than_patience_lasts_if_it_advances(
    server: Server, tmp_path: Path
) -> None:
    call = server.get("/a", DATA)
    server.answers["/a"].extend(Answer(cut=200_000) for _ in range(3 * QUICK.attempts))

    quick().download(call, tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == DATA


def test_a_broken_download_begins_anew_where_parts_are_not_served(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    call = server.get("/a", DATA)
    server.answers["/a"].append(Answer(cut=1_000_000))

    quick().download(call, tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == DATA


def test_a_file_replaced_between_two_tries_is_not_patched_together(server: Server, tmp_path: Path) -> None:
    call = server.get("/a", DATA)
    server.answers["/a"].append(Answer(cut=1_000_000))

    def replace(done: int, total: int | None) -> None:
        server.files["/a"] = b"new"

    quick().download(call, tmp_path / "a", progress=replace)

    assert (tmp_path / "a").read_bytes() == b"new"


def test_an_answer_with_the_wrong_part_is_not_used(server: Server, tmp_path: Path) -> None:
    call = server.get("/a", DATA)
    server.answers["/a"].extend(
        [Answer(cut=1_000_000), Answer(206, {"Content-Range": "bytes 7-9/3000000"}, b"xyz"), Answer(416)]
    )

    quick().download(call, tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize(
    ("size", "checksums"),
    [(5, None), (len(DATA), {"md5": "0" * 32}), (None, {"sha1": "0" * 40}), (None, {"sha256": "0" * 64})],
)
def test_a_file_other_than_promised_is_refused_and_removed(
    server: Server, tmp_path: Path, size: int | None, checksums: dict[str, str] | None
) -> None:
    with pytest.raises(Invalid, match="not the file that was expected"):
        quick().download(server.get("/a", DATA), tmp_path / "a", size=size, checksums=checksums)

    assert not (tmp_path / "a").exists()


def test_a_file_that_was_mangled_once_is_fetched_again(server: Server, tmp_path: Path) -> None:
    call = server.get("/a", DATA)
    server.answers["/a"].append(Answer(200, {}, b"x" * len(DATA)))

    quick().download(call, tmp_path / "a", checksums={"sha256": hashlib.sha256(DATA).hexdigest().upper()})

    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(404), NotFound),
        (Answer(401), Forbidden),
        (Answer(403), Forbidden),
        (Answer(410), Forbidden),
        (Answer(400, {}, b"<Code>ExpiredToken</Code>"), Forbidden),
        (Answer(400, {}, b"bad"), Invalid),
        (Answer(405), Invalid),
    ],
)
def test_a_refusal_is_explained_at_once_without_secrets(
    server: Server, tmp_path: Path, answer: Answer, error: type[LamplighterError]
) -> None:
    url = server.origin.replace("http://", "http://ada:s3cret@") + "/a?X-Amz-Signature=s3cret#s3cret"
    server.answers["/a"].append(answer)

    with pytest.raises(error) as caught:
        quick().download(Call(url), tmp_path / "a")

    assert "s3cret" not in str(caught.value)
    assert str(answer.status) in str(caught.value)
    assert len(server.requests("/a")) == 1


@pytest.mark.parametrize(("status", "error"), [(500, Unavailable), (503, Unavailable), (429, Throttled)])
def test_patience_ends(server: Server, tmp_path: Path, status: int, error: type[LamplighterError]) -> None:
    server.answers["/a"].extend(Answer(status) for _ in range(50))

    with pytest.raises(error):
        quick().download(server.get("/a", DATA), tmp_path / "a")

    assert len(server.requests("/a")) == QUICK.attempts


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))

        with pytest.raises(Unavailable):
            quick().download(Call(f"http://127.0.0.1:{taken.getsockname()[1]}/a"), tmp_path / "a")


def test_credentials_in_the_url_are_sent_as_basic_authorization(server: Server, tmp_path: Path) -> None:
    server.get("/a", DATA)
    url = server.origin.replace("http://", "http://ada:p%40ss@") + "/a"

    quick().download(Call(url), tmp_path / "a")

    headers = server.requests("/a")[0].headers
    assert headers["Authorization"] == "Basic YWRhOnBAc3M="
    assert headers["Host"] == server.origin.removeprefix("http://")


def test_headers_of_the_call_are_sent_as_they_are(server: Server, tmp_path: Path) -> None:
    call = Call(server.get("/a", DATA).url, headers={"Authorization": "Job xyz", "X-Thing": "1"})

    quick().download(call, tmp_path / "a")

    headers = server.requests("/a")[0].headers
    assert (headers["Authorization"], headers["X-Thing"]) == ("Job xyz", "1")


def test_names_with_blanks_and_letters_of_all_kinds_can_be_fetched(server: Server, tmp_path: Path) -> None:
    server.get("/a%20b%C3%A4", DATA)

    quick().download(Call(server.origin + "/a bä"), tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == DATA


def test_redirects_are_followed_and_other_hosts_do_not_get_the_headers(server: Server, tmp_path: Path) -> None:
    other = Server()
    other.get("/b", DATA)
    server.answers["/a"].append(Answer(302, {"Location": "/a2"}))
    server.answers["/a2"].append(Answer(307, {"Location": other.origin + "/b"}))

    quick().download(Call(server.origin + "/a", headers={"Authorization": "Job xyz"}), tmp_path / "a")
    other.shutdown()
    other.server_close()

    assert (tmp_path / "a").read_bytes() == DATA
    assert server.requests("/a2")[0].headers["Authorization"] == "Job xyz"
    assert "Authorization" not in other.requests("/b")[0].headers


def test_redirects_without_end_are_refused(server: Server, tmp_path: Path) -> None:
    server.answers["/a"].extend(Answer(302, {"Location": "/a"}) for _ in range(50))

    with pytest.raises(Invalid, match="redirect"):
        quick().download(Call(server.origin + "/a"), tmp_path / "a")

    assert len(server.requests("/a")) == 6


def test_every_hop_is_judged(server: Server, tmp_path: Path) -> None:
    other = Server()
    server.answers["/a"].extend([Answer(302, {"Location": other.get("/b", DATA).url})] * 2)
    server.answers["/file"].append(Answer(302, {"Location": "file:///etc/passwd"}))
    guarded = quick(networks="public", trusted_origin=server.origin)

    for path in ("/a", "/file"):
        with pytest.raises(Invalid):
            guarded.download(Call(server.origin + path), tmp_path / "a")
    other.shutdown()
    other.server_close()

    assert other.seen == []


def test_trust_does_not_come_by_redirect(server: Server, tmp_path: Path) -> None:
    other = Server()
    hop = Answer(302, {"Location": server.get("/a", DATA).url})
    other.answers["/b"].append(hop)
    guarded = Transfer("any", other.origin, QUICK)

    guarded.download(Call(other.origin + "/b"), tmp_path / "a")
    with pytest.raises(Invalid):
        Transfer("public", server.origin, QUICK).download(Call(other.origin + "/b"), tmp_path / "a")
    other.shutdown()
    other.server_close()


def test_a_proxy_of_the_environment_is_not_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    quick().download(server.get("/a", DATA), tmp_path / "a")

    assert (tmp_path / "a").read_bytes() == DATA


def test_a_transfer_can_be_cancelled(server: Server, tmp_path: Path) -> None:
    running = quick()

    with pytest.raises(Cancelled):
        running.download(server.get("/a", DATA), tmp_path / "a", progress=lambda done, total: running.stop.set())

    assert not (tmp_path / "a").exists()


def test_what_progress_raises_ends_the_download(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        quick().download(server.get("/a", DATA), tmp_path / "a", progress=stop)

    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("headers", [{"X": "a\r\nEvil: 1"}, {"X\r\nEvil": "1"}])
def test_headers_cannot_be_smuggled_in(server: Server, tmp_path: Path, headers: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        quick().download(Call(server.get("/a", DATA).url, headers=headers), tmp_path / "a")


def test_an_upload_arrives_with_its_length(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)

    Transfer().upload(Call(server.origin + "/a", "PUT", {"x-ms-blob-type": "BlockBlob"}), tmp_path / "a")

    assert server.files["/a"] == DATA
    headers = server.requests("/a")[0].headers
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["x-ms-blob-type"] == "BlockBlob"


def test_an_empty_upload_is_sent(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")

    quick().upload(server.put("/a"), tmp_path / "a", sha256=hashlib.sha256(b"").hexdigest())

    assert server.files["/a"] == b""


@pytest.mark.parametrize("status", [409, 412])
def test_an_upload_that_is_stored_already_is_done(server: Server, tmp_path: Path, status: int) -> None:
    (tmp_path / "a").write_bytes(DATA)
    server.answers["/a"].append(Answer(status))

    quick().upload(server.put("/a"), tmp_path / "a")

    assert len(server.requests("/a")) == 1


def test_an_upload_is_repeated_until_it_succeeds(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    server.answers["/a"].extend([Answer(503), Answer(500), Answer(429, {"Retry-After": "0"})])

    quick().upload(server.put("/a"), tmp_path / "a")

    assert server.files["/a"] == DATA


def test_a_refused_upload_is_an_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    server.answers["/a"].extend([Answer(403), Answer(301, {"Location": "/b"})])

    with pytest.raises(Forbidden):
        quick().upload(server.put("/a"), tmp_path / "a")
    with pytest.raises(Invalid):
        quick().upload(server.put("/a"), tmp_path / "a")


def test_a_server_that_refuses_before_the_body_is_sent_is_understood(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 50_000_000)

    with early_refusal() as url, pytest.raises((Forbidden, Unavailable)):
        quick().upload(Call(url, "PUT"), tmp_path / "a")


def test_a_file_that_changed_since_it_was_hashed_is_not_stored(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)

    with pytest.raises(Changed):
        quick().upload(server.put("/a"), tmp_path / "a", sha256="0" * 64)

    assert "/a" not in server.files


class early_refusal:
    """A server that answers 403 and hangs up as soon as it has seen the headers."""

    def __enter__(self) -> str:
        import threading

        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/a"

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            connection.close()
