"""Git hosts: what the port promises is kept over the network and on a local path, and credentials open their repository only."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.githosts.bare_git import BareGit
from lamplighter.archives import inspect
from lamplighter.contract.archive_rules import unpack
from lamplighter.errors import Forbidden, Invalid, LamplighterError, NotFound
from lamplighter.ports import GitCommit, GitHost
from tests.conformance.git_places import GitServer, archived, commit, git, push, refusal

CREDENTIAL = ("ada", "s3cret")


@pytest.fixture(params=["http", "local"])
def place(request: pytest.FixtureRequest, server: GitServer, work: Path) -> str:
    """The repository's URL: every promise of the port is kept over the network and on a local path."""
    return server.url() if request.param == "http" else f"file://{server.root}/project.git"


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


def _fields(error: LamplighterError) -> dict[str, Any]:
    assert isinstance(error, Invalid)
    return dict(error.fields)


def test_an_archive_is_a_gzip_tar_without_name_or_time_in_its_header(host: GitHost, place: str) -> None:
    data = archived(host, place, host.resolve(place, "main"))

    assert data[:4] == b"\x1f\x8b\x08\x00"
    assert data[4:8] == bytes(4)
    assert gzip.decompress(data)[257:262] == b"ustar"


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
