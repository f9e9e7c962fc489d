"""Git hosts: real servers answer, hostile URLs and repositories are refused, nothing else is ever connected to."""

from __future__ import annotations

import base64
import gzip
import io
import os
import socket
import ssl
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adapters.githosts.addresses import acceptable
from adapters.githosts.bare_git import BareGit, GitLimits
from adapters.githosts.packs import check_pack
from lamplighter.archives import inspect
from lamplighter.contract.archive_rules import ArchiveLimits, unpack
from lamplighter.errors import Forbidden, Invalid, LamplighterError, NotFound, Throttled, Unavailable
from lamplighter.ports import GitCommit, GitHost

WHEN = "1700000000 +0000"
CREDENTIAL = ("ada", "s3cret")


def git(place: Path, *arguments: str, text: bytes | None = None) -> str:
    """Runs git without any configuration but ours."""
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    env |= {f"GIT_{who}_{what}": v for who in ("AUTHOR", "COMMITTER") for what, v in WHO.items()}
    done = subprocess.run(["git", "-C", str(place), *arguments], env=env, input=text, capture_output=True, check=True)
    return done.stdout.decode().strip()


WHO = {"NAME": "Ada", "EMAIL": "ada@example.org", "DATE": WHEN}


class GitServer:
    """`git http-backend` behind a small web server on loopback; keeps what was asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str]] = []
        self.credential: tuple[str, str] | None = None
        self.answer: Callable[[str], tuple[int, dict[str, str], bytes] | None] = lambda _path: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._handle(b"")

            def do_POST(self) -> None:
                self._handle(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _handle(self, body: bytes) -> None:
                outer.asked.append((self.command, self.path))
                status, headers, data = outer.answer(self.path) or outer.backend(self, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def speak_tls(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def url(self, name: str = "project.git") -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def backend(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.credential:
            expected = "Basic " + base64.b64encode(":".join(self.credential).encode()).decode()
            if handler.headers.get("Authorization") != expected:
                return 401, {"WWW-Authenticate": 'Basic realm="git"'}, b""
        path, _, query = handler.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": handler.command,
            "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
        }
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False).stdout
        head, _, data = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return int(headers.pop("Status", "200").split()[0]), headers, data

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    root = tmp_path / "served"
    root.mkdir()
    running = GitServer(root)
    yield running
    running.close()


@pytest.fixture
def work(tmp_path: Path, server: GitServer) -> Path:
    """A checkout with two commits, a branch and two tags, pushed to the server as project.git."""
    git(server.root, "init", "-q", "--bare", "-b", "main", "project.git")
    place = tmp_path / "work"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    (place / "valohai.yaml").write_text("- step: {}\n")
    (place / "old.txt").write_text("old\n")
    commit(place, "first")
    git(place, "tag", "light")
    git(place, "tag", "-a", "-m", "annotated", "v1.0")
    git(place, "rm", "-q", "old.txt")
    (place / "src" / "deep").mkdir(parents=True)
    (place / "src" / "deep" / "größe.py").write_text("print('hello')\n" * 500)
    (place / "run.sh").write_text("#!/bin/sh\n")
    (place / "run.sh").chmod(0o755)
    (place / "src" / "link").symlink_to("../run.sh")
    commit(place, "second, with ü\n\nand a body")
    git(place, "branch", "topic/x")
    push(place, server)
    return place


def commit(place: Path, message: str) -> None:
    git(place, "add", "-A")
    git(place, "commit", "-q", "--allow-empty", "-m", message)


def push(place: Path, server: GitServer) -> None:
    git(place, "push", "-q", "--mirror", str(server.root / "project.git"))


@pytest.fixture(params=["http", "local"])
def place(request: pytest.FixtureRequest, server: GitServer, work: Path) -> str:
    """The repository's URL: every promise of the port is kept over the network and on a local path."""
    return server.url() if request.param == "http" else f"file://{server.root}/project.git"


@pytest.fixture
def host() -> GitHost:
    return BareGit(allow_private_hosts=True, allow_local_paths=True)


def archived(host: GitHost, url: str, found: GitCommit) -> bytes:
    target = io.BytesIO()
    host.archive(url, found, target)
    return target.getvalue()


def refusal(call: Callable[[], Any]) -> LamplighterError:
    with pytest.raises(LamplighterError) as refused:
        call()
    return refused.value


# --- What the port promises -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "means"),
    [
        ("main", "main"),
        ("topic/x", "main"),
        ("HEAD", "main"),
        ("refs/heads/main", "main"),
        ("light", "light"),
        ("v1.0", "light"),
        ("refs/tags/v1.0", "light"),
    ],
)
def test_a_ref_resolves_to_the_commit_it_points_at(host: GitHost, place: str, work: Path, ref: str, means: str) -> None:
    found = host.resolve(place, ref)

    assert found.identifier == git(work, "rev-parse", f"{means}^{{commit}}")
    assert found.ref == ref
    assert found.time == datetime.fromtimestamp(1700000000, UTC)


def test_a_commit_can_be_named_by_its_sha_and_tells_its_message(host: GitHost, place: str, work: Path) -> None:
    sha = git(work, "rev-parse", "main")

    found = host.resolve(place, sha)

    assert found == GitCommit(sha, sha, "second, with ü\n\nand a body\n", datetime.fromtimestamp(1700000000, UTC))


@pytest.mark.parametrize("ref", ["nope", "refs/heads/nope", "f" * 40])
def test_a_ref_that_does_not_exist_is_not_found(host: GitHost, place: str, ref: str) -> None:
    with pytest.raises(NotFound):
        host.resolve(place, ref)


@pytest.mark.parametrize(
    "ref", ["", "-x", "--upload-pack=x", "a b", "a\nb", "a\0", "a:b", "a^", "a~1", "é", "/x", "x" * 252]
)
def test_a_ref_that_could_be_anything_else_is_refused(host: GitHost, place: str, ref: str) -> None:
    assert set(_fields(refusal(lambda: host.resolve(place, ref)))) == {"ref"}


def test_an_archive_holds_exactly_the_files_of_the_commit(host: GitHost, place: str, tmp_path: Path) -> None:
    data = archived(host, place, host.resolve(place, "main"))

    target = tmp_path / "unpacked"
    target.mkdir()
    unpack(io.BytesIO(data), target)
    names = sorted(str(p.relative_to(target)) for p in target.rglob("*") if not p.is_dir())
    assert names == ["run.sh", "src/deep/größe.py", "src/link", "valohai.yaml"]
    assert (target / "src" / "deep" / "größe.py").read_text() == "print('hello')\n" * 500
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755
    assert os.readlink(target / "src" / "link") == "../run.sh"
    assert (target / "valohai.yaml").stat().st_mtime == 1700000000


def test_the_archive_of_a_commit_is_always_the_same(host: GitHost, work: Path, server: GitServer) -> None:
    local = f"file://{server.root}/project.git"

    archives = {archived(host, url, host.resolve(url, "main")) for url in (server.url(), local, server.url())}

    assert len(archives) == 1


def test_an_older_commit_can_be_archived_after_its_branch_moved_on(host: GitHost, place: str) -> None:
    data = archived(host, place, host.resolve(place, "light"))

    assert inspect(io.BytesIO(data), wanted="old.txt").wanted == b"old\n"


def test_a_commit_that_is_not_there_cannot_be_archived(host: GitHost, place: str) -> None:
    missing = GitCommit("f" * 40, "main", "", datetime.now(UTC))

    with pytest.raises(NotFound):
        archived(host, place, missing)


def test_a_commit_that_is_no_sha_is_refused(host: GitHost, place: str) -> None:
    with pytest.raises(Invalid):
        archived(host, place, GitCommit("--all", "main", "", datetime.now(UTC)))


@pytest.mark.parametrize("missing", ["nothing.git", "../etc.git"])
def test_a_repository_that_does_not_exist_is_refused(host: GitHost, place: str, missing: str) -> None:
    url = place.replace("project.git", missing)

    assert isinstance(refusal(lambda: host.resolve(url, "main")), NotFound | Invalid)


def test_a_submodule_is_left_out(host: GitHost, work: Path, server: GitServer) -> None:
    (work / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = --upload-pack=owned\n')
    git(work, "add", ".gitmodules")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x")
    git(work, "commit", "-q", "-m", "a submodule")
    push(work, server)

    data = archived(host, server.url(), host.resolve(server.url(), "main"))

    assert inspect(io.BytesIO(data), wanted=".gitmodules").files == 5


def test_a_large_history_with_deltas_is_archived(host: GitHost, work: Path, server: GitServer) -> None:
    for n in range(20):
        (work / f"file{n}").write_text("\n".join(str(k * (n == k % 7) + k) for k in range(3000)))
    commit(work, "alike")
    push(work, server)
    git(server.root / "project.git", "gc", "-q", "--aggressive")

    data = archived(host, server.url(), host.resolve(server.url(), "main"))

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content = tar.extractfile("file3")
        assert content is not None
        assert content.read() == (work / "file3").read_bytes()


# --- Credentials ----------------------------------------------------------------------------------------------------


def test_a_private_repository_opens_with_its_credentials_only(work: Path, server: GitServer) -> None:
    server.credential = CREDENTIAL
    asked: list[str] = []

    def credentials(url: str) -> tuple[str, str]:
        asked.append(url)
        return CREDENTIAL

    found = BareGit(allow_private_hosts=True, credentials=credentials).resolve(server.url(), "main")
    stranger = refusal(lambda: BareGit(allow_private_hosts=True).resolve(server.url(), "main"))
    wrong = refusal(
        lambda: BareGit(allow_private_hosts=True, credentials=lambda _: ("ada", "x")).resolve(server.url(), "main")
    )

    assert found.identifier == git(work, "rev-parse", "main")
    assert asked == [server.url()]
    assert isinstance(stranger, Forbidden)
    assert isinstance(wrong, Forbidden)
    assert "s3cret" not in str(wrong)


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


# --- Hostile URLs ---------------------------------------------------------------------------------------------------


class Names:
    """A name server that answers with public addresses first and private ones afterwards, and counts the questions."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.questions.append(host)
        address = self.answers[min(len(self.questions), len(self.answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in address.split(",")]


BAD_URLS = [
    "",
    "git",
    "http://github.com/a/b.git",
    "git://github.com/a/b.git",
    "ssh://git@github.com/a/b.git",
    "git@github.com:a/b.git",
    "file:///etc",
    "ext::sh -c touch% /tmp/owned",
    "ftp://host.example/a",
    "HTTPS//host.example/a",
    "-oProxyCommand=owned",
    "--upload-pack=owned",
    "https://",
    "https:///a/b",
    "https://host.example",
    "https://host.example/",
    "https://user@host.example/a",
    "https://user:pass@host.example/a",
    "https://@host.example/a",
    "https://host.example@127.0.0.1/a",
    "https://host.example/a?x=1",
    "https://host.example/a?",
    "https://host.example/a#x",
    "https://host.example/a b",
    "https://host.example/a\r\nHost: x",
    "https://host.example/a\nb",
    "https://host.example/\ta",
    "https://host.example\\@127.0.0.1/a",
    "https://host.example/../a",
    "https://host.example/a/./b",
    "https://host.example//evil.example/a",
    "https://host.example:0/a",
    "https://host.example:/a",
    "https://host.example:99999/a",
    "https://host.example:x/a",
    "https://-host.example/a",
    "https://host_.example/a",
    "https://host..example/a",
    "https://höst.example/a",
    "https://①②⑦.⓪.⓪.①/a",
    "https://[::1/a",
    "https://[fe80::1%25eth0]/a",
    "https://" + "a" * 2100 + ".example/a",
    "https://localhost/a",
    "https://localhost./a",
    "https://LOCALHOST/a",
    "https://x.localhost/a",
    "https://metadata/a",
    "https://metadata.google.internal/a",
    "https://server.local/a",
    "https://intranet/a",
    "https://127.0.0.1/a",
    "https://127.1/a",
    "https://127.0.1/a",
    "https://2130706433/a",
    "https://0x7f000001/a",
    "https://0x7f.0.0.1/a",
    "https://017700000001/a",
    "https://0177.0.0.1/a",
    "https://127.0.0.01/a",
    "https://1.2.3.4.5/a",
    "https://0.0.0.0/a",
    "https://0/a",
    "https://10.0.0.1/a",
    "https://172.16.0.1/a",
    "https://192.168.0.1/a",
    "https://100.64.0.1/a",
    "https://100.100.100.200/a",
    "https://169.254.169.254/a",
    "https://168.63.129.16/a",
    "https://192.0.2.1/a",
    "https://198.18.0.1/a",
    "https://224.0.0.1/a",
    "https://240.0.0.1/a",
    "https://255.255.255.255/a",
    "https://[::]/a",
    "https://[::1]/a",
    "https://[::ffff:127.0.0.1]/a",
    "https://[::ffff:7f00:1]/a",
    "https://[::127.0.0.1]/a",
    "https://[2002:7f00:1::]/a",
    "https://[2002:a9fe:a9fe::1]/a",
    "https://[64:ff9b::7f00:1]/a",
    "https://[64:ff9b::169.254.169.254]/a",
    "https://[64:ff9b:1::a00:1]/a",
    "https://[2001:0:1:2:3:4:80ff:fffe]/a",
    "https://[fe80::1]/a",
    "https://[fec0::1]/a",
    "https://[fc00::1]/a",
    "https://[fd00:ec2::254]/a",
    "https://[ff02::1]/a",
    "https://[2001:db8::1]/a",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_hostile_url_is_refused_without_asking_any_name_server(url: str) -> None:
    names = Names("93.184.216.34")
    host = BareGit(allow_private_hosts=False, lookup=names)

    refused = refusal(lambda: host.resolve(url, "main"))

    assert isinstance(refused, Invalid)
    assert set(refused.fields) == {"url"}
    assert names.questions == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "fd00:ec2::254",
     "93.184.216.34,127.0.0.1", "64:ff9b::a9fe:a9fe", "0.0.0.0"],
)  # fmt: skip
def test_a_public_name_with_a_private_address_is_refused(address: str) -> None:
    host = BareGit(allow_private_hosts=False, lookup=Names(address))

    assert isinstance(refusal(lambda: host.resolve("https://innocent.example/a/b.git", "main")), Invalid)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "168.63.129.16", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254"]
)
def test_metadata_services_stay_closed_even_where_private_hosts_are_allowed(address: str) -> None:
    host = BareGit(allow_private_hosts=True, lookup=Names(address))

    assert isinstance(refusal(lambda: host.resolve("https://innocent.example/a/b.git", "main")), Invalid)


def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to(work: Path, server: GitServer) -> None:
    names = Names("127.0.0.1", "10.255.255.1")
    url = server.url().replace("127.0.0.1", "git.example")

    found = BareGit(allow_private_hosts=True, lookup=names).resolve(url, "main")

    assert found.identifier == git(work, "rev-parse", "main")
    assert names.questions == ["git.example"]


def certificate_for(name: str, place: Path) -> Path:
    """A self-signed certificate with its key, as one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = place / f"{name}.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("name", ["git.example", "other.example"])
def test_the_certificate_must_be_trusted_and_name_the_host_of_the_url(
    work: Path, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool
) -> None:
    certificate = certificate_for(name, tmp_path)
    server.speak_tls(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = server.url().replace("http://127.0.0.1", "https://git.example")
    host = BareGit(allow_private_hosts=True, lookup=Names("127.0.0.1"))

    if trusted and name == "git.example":
        assert host.resolve(url, "main").identifier == git(work, "rev-parse", "main")
    else:
        assert isinstance(refusal(lambda: host.resolve(url, "main")), Unavailable)
        assert server.asked == []


def test_a_name_that_cannot_be_resolved_is_unavailable() -> None:
    def fails(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    host = BareGit(allow_private_hosts=False, lookup=fails)

    assert isinstance(refusal(lambda: host.resolve("https://nowhere.example/a", "main")), Unavailable)


def test_public_addresses_are_acceptable() -> None:
    import ipaddress

    for address in ("93.184.216.34", "140.82.121.4", "2606:50c0:8000::153", "64:ff9b::5db8:d822"):
        assert acceptable(ipaddress.ip_address(address), allow_private_hosts=False)


def test_local_paths_are_closed_unless_they_are_opened(work: Path, server: GitServer) -> None:
    host = BareGit(allow_private_hosts=True)

    assert isinstance(refusal(lambda: host.resolve(f"file://{server.root}/project.git", "main")), Invalid)


def _fields(error: LamplighterError) -> dict[str, Any]:
    assert isinstance(error, Invalid)
    return dict(error.fields)


def test_an_archive_is_a_gzip_tar_without_name_or_time_in_its_header(host: GitHost, place: str) -> None:
    data = archived(host, place, host.resolve(place, "main"))

    assert data[:4] == b"\x1f\x8b\x08\x00"
    assert data[4:8] == bytes(4)
    assert gzip.decompress(data)[257:262] == b"ustar"
