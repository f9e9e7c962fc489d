"""Hostile git hosts, repositories and packs are refused, and nothing else is ever connected to."""

from __future__ import annotations

import io
import os
import socket
import zlib
from pathlib import Path

import pytest

from adapters.githosts.bare_git import BareGit, GitLimits
from adapters.githosts.packs import check_pack
from lamplighter.contract.archive_rules import ArchiveLimits
from lamplighter.errors import Forbidden, Invalid, LamplighterError, NotFound, Throttled, Unavailable
from lamplighter.ports import GitHost
from tests.conformance.git_places import GitServer, archived, commit, git, push, refusal

# --- Hostile hosts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/x.git/info/refs?service=git-upload-pack", "http://169.254.169.254/"]
)
def test_a_redirect_is_never_followed(host: GitHost, server: GitServer, target: str) -> None:
    server.answer = lambda _path: (302, {"Location": target}, b"")

    refused = refusal(lambda: host.resolve(server.url(), "main"))

    assert isinstance(refused, Invalid)
    assert "redirects are not followed" in str(refused)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (410, NotFound),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_refusal_of_the_host_is_told_in_our_words(
    host: GitHost, server: GitServer, status: int, kind: type[LamplighterError]
) -> None:
    server.answer = lambda _path: (status, {}, b"")

    assert isinstance(refusal(lambda: host.resolve(server.url(), "main")), kind)


def test_a_web_page_is_no_repository(host: GitHost, server: GitServer) -> None:
    server.answer = lambda _path: (200, {"Content-Type": "text/html"}, b"<html>")

    assert "no git repository" in str(refusal(lambda: host.resolve(server.url(), "main")))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"0000",
        b"ffff" + b"x" * 100,
        b"001e# service=git-upload-pack\n0000" + b"0008NAK\n",
        b"000eversion 2\n0000",
        b"000eversion 9\n0000",
        b"001e# service=git-upload-pack\n0000000eversion 2\n",
        os.urandom(3000),
    ],
)
def test_an_answer_that_makes_no_sense_is_unavailable(host: GitHost, server: GitServer, body: bytes) -> None:
    server.answer = lambda _path: (200, {"Content-Type": "application/x-git-upload-pack-advertisement"}, body)

    refused = refusal(lambda: host.resolve(server.url(), "main"))

    assert isinstance(refused, Unavailable | NotFound | Invalid)


def test_a_host_that_sends_us_to_other_packs_is_not_followed(host: GitHost, work: Path, server: GitServer) -> None:
    line = b"https://127.0.0.1:1/evil.pack sha1 " + b"0" * 40 + b"\n"
    data = b"0012packfile-uris\n" + b"%04x" % (len(line) + 4) + line + b"000dpackfile\n0000"
    found = host.resolve(server.url(), "main")
    server.asked.clear()

    def answer(path: str) -> tuple[int, dict[str, str], bytes] | None:
        fetching = [method for method, _ in server.asked] == ["GET", "POST", "POST"]
        return (200, {"Content-Type": "application/x-git-upload-pack-result"}, data) if fetching else None

    server.answer = answer

    refused = refusal(lambda: archived(host, server.url(), found))

    assert "sent us to another place" in str(refused)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("text", "kind"), [("upload-pack: not our ref 1", NotFound), ("overloaded \x1b[2J", Unavailable)]
)
def test_an_error_inside_the_protocol_is_told(
    host: GitHost, server: GitServer, work: Path, text: str, kind: type[LamplighterError]
) -> None:
    found = host.resolve(server.url(), "main")
    data = b"%04xERR %s" % (len(text) + 8, text.encode())
    server.answer = lambda path: (
        (200, {"Content-Type": "application/x-git-upload-pack-result"}, data) if path.endswith("pack") else None
    )

    refused = refusal(lambda: archived(host, server.url(), found))

    assert isinstance(refused, kind)
    assert str(refused).isprintable()


def test_a_host_that_is_not_there_is_unavailable(host: GitHost) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x.git"

        assert isinstance(refusal(lambda: host.resolve(url, "main")), Unavailable)


# --- Hostile repositories -------------------------------------------------------------------------------------------


def plant(work: Path, server: GitServer, tree: str) -> None:
    """Pushes a commit of a tree that git itself would not make from files."""
    sha = git(work, "commit-tree", tree, "-m", "planted")
    git(work, "push", "-q", "-f", str(server.root / "project.git"), f"{sha}:refs/heads/main")


def raw_tree(work: Path, *entries: tuple[bytes, bytes, str]) -> str:
    body = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries)
    return git(work, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", text=body)


@pytest.mark.parametrize(
    ("mode", "name", "content"),
    [
        (b"100644", b"..", b"x"),
        (b"100644", b"../canary", b"x"),
        (b"100644", b"/etc/passwd", b"x"),
        (b"100644", b".git", b"x"),
        (b"100644", b".GIT", b"x"),
        (b"100644", b"a\nb", b"x"),
        (b"100644", b"\xff", b"x"),
        (b"100644", b"n" * 256, b"x"),
        (b"120000", b"out", b"/etc/passwd"),
        (b"120000", b"out", b"../canary"),
        (b"120000", b"out", b"here/../../canary"),
        (b"120000", b"out", b""),
        (b"120000", b"out", b"a\nb"),
    ],
)
@pytest.mark.parametrize("local", [False, True])
def test_a_tree_that_would_climb_out_is_refused(
    host: GitHost, work: Path, server: GitServer, mode: bytes, name: bytes, content: bytes, local: bool
) -> None:
    blob = git(work, "hash-object", "-w", "--stdin", text=content)
    plant(work, server, raw_tree(work, (mode, name, blob)))
    url = f"file://{server.root}/project.git" if local else server.url()

    refused = refusal(lambda: archived(host, url, host.resolve(url, "main")))

    assert isinstance(refused, Invalid | Unavailable)


def test_a_tree_that_repeats_itself_is_refused(host: GitHost, work: Path, server: GitServer) -> None:
    tree = raw_tree(work)
    for _ in range(12):
        tree = raw_tree(work, *((b"40000", b"d%d" % n, tree) for n in range(10)))
    plant(work, server, tree)

    refused = refusal(lambda: archived(host, server.url(), host.resolve(server.url(), "main")))

    assert "more than 50000 files and directories" in str(refused)


@pytest.mark.parametrize(
    "limits",
    [
        GitLimits(object_bytes=1_000_000),
        GitLimits(archive=ArchiveLimits(total_bytes=1_000_000)),
        GitLimits(pack_bytes=1000),
    ],
)
def test_a_commit_beyond_the_limits_is_refused(work: Path, server: GitServer, limits: GitLimits) -> None:
    (work / "zeros").write_bytes(bytes(3_000_000))
    commit(work, "a bomb")
    push(work, server)
    host = BareGit(allow_private_hosts=True, limits=limits)
    found = host.resolve(server.url(), "main")

    refused = refusal(lambda: archived(host, server.url(), found))

    assert isinstance(refused, Invalid)
    assert "larger than" in str(refused)


def pack(*objects: bytes, count: int | None = None) -> io.BytesIO:
    return io.BytesIO(
        b"PACK\0\0\0\2" + (len(objects) if count is None else count).to_bytes(4, "big") + b"".join(objects)
    )


def packed_object(kind: int, size: int, content: bytes, base: bytes = b"") -> bytes:
    head = [(kind << 4) | (size & 15)]
    size >>= 4
    while size:
        head[-1] |= 0x80
        head.append(size & 0x7F)
        size >>= 7
    return bytes(head) + base + zlib.compress(content)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (io.BytesIO(b""), Unavailable),
        (io.BytesIO(b"PACK\0\0\0\x09\0\0\0\0"), Unavailable),
        (pack(count=1), Unavailable),
        (pack(count=2**31), Invalid),
        (pack(packed_object(3, 2**40, b"x")), Invalid),
        (pack(packed_object(3, 5, b"x" * 6)), Unavailable),
        (pack(packed_object(3, 5, b"x" * 4)), Unavailable),
        (pack(packed_object(3, 5, bytes(50_000_000))), Unavailable),
        (pack(packed_object(0, 1, b"x")), Unavailable),
        (pack(b"\x3f" + b"\xff" * 20), Unavailable),
        (pack(packed_object(3, 5, b"")[:-3] + b"????"), Unavailable),
        (pack(packed_object(7, 7, b"\x05\xff\xff\xff\xff\x7f\0", b"b" * 20)), Invalid),
        (pack(packed_object(6, 2, b"\x85\x85", b"\x05")), Unavailable),
        (pack(packed_object(6, 2, b"\x05\x05", b"\xff" * 12)), Unavailable),
        (pack(*[packed_object(3, 900, bytes(900))] * 20), Invalid),
    ],
)
def test_a_hostile_pack_is_refused(file: io.BytesIO, kind: type[LamplighterError]) -> None:
    with pytest.raises(kind):
        check_pack(file, object_bytes=1000, total_bytes=10_000)
