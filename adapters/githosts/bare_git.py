"""Fetches commits from any git server over HTTPS, without a git program and without running anything of the repository."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import getaddrinfo
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from adapters.githosts.addresses import Lookup, check, refused
from adapters.githosts.packs import check_pack, find_commit
from adapters.githosts.tree_archive import write_archive
from lamplighter.contract.archive_rules import DEFAULT_LIMITS as ARCHIVE_LIMITS
from lamplighter.contract.archive_rules import ArchiveLimits
from lamplighter.errors import Invalid, LamplighterError, NotFound, Unavailable
from lamplighter.ports import GitCommit

Credentials = Callable[[str], tuple[str, str] | None]
"""User and password (or token) for a repository's URL; None where it is public."""

MIB = 1024 * 1024
MAX_MESSAGE = 10_000
MAX_REFS_BYTES = 32 * MIB
MAX_BEGINNING = 8 * MIB
_REF = re.compile(r"[A-Za-z0-9][\w./@+-]{0,250}", re.ASCII)
_SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class GitLimits:
    """How much one fetch may cost. `object_bytes` is held in memory at once; `seconds` covers a whole call."""

    pack_bytes: int = 1000 * MIB
    object_bytes: int = 128 * MIB
    seconds: float = 300
    archive: ArchiveLimits = ARCHIVE_LIMITS


DEFAULT_LIMITS = GitLimits()


class BareGit:
    """A `GitHost` for plain git servers.

    `allow_private_hosts` also permits http and addresses of private networks (never metadata services);
    `allow_local_paths` permits file:// URLs, which read any repository that this process can read. `credentials` is asked
    per URL, so that a password is only ever sent to the repository it belongs to.
    """

    def __init__(
        self,
        *,
        allow_private_hosts: bool,
        allow_local_paths: bool = False,
        credentials: Credentials | None = None,
        limits: GitLimits = DEFAULT_LIMITS,
        lookup: Lookup = getaddrinfo,
    ) -> None:
        self._allow_private_hosts = allow_private_hosts
        self._allow_local_paths = allow_local_paths
        self._credentials = credentials or (lambda _url: None)
        self._limits = limits
        self._lookup = lookup

    def resolve(self, url: str, ref: str) -> GitCommit:
        """See `GitHost.resolve`. `ref` is a branch, a tag, HEAD, a full name (refs/...) or a 40-hex commit."""
        if not _REF.fullmatch(ref):
            raise Invalid({"ref": ["The ref must begin with a letter or digit and hold only those and . _ / @ + -"]})
        with _explained(url, ref):
            if self._is_local(url):
                with _local_store(url) as (store, refs):
                    return _commit(_peeled(store, _pick(refs, ref)), ref)
            with self._client(url, MAX_REFS_BYTES + MAX_BEGINNING) as client:
                wanted, sha = self._tip(client, ref)
                return _commit(_fetch_commit(client, wanted, sha), ref)

    def archive(self, url: str, commit: GitCommit, target: BinaryIO) -> None:
        """See `GitHost.archive`. The same commit always gives the same bytes; submodules are left out.

        Raises `Invalid` for a tree that breaks the archive rules or limits; `target` may then hold a part of it.
        """
        if not _SHA.fullmatch(commit.identifier):
            raise Invalid({"commit": ["A commit is named by the 40 hex digits of its SHA-1."]})
        with _explained(url, commit.identifier):
            if self._is_local(url):
                with _local_store(url) as (store, _):
                    write_archive(store, _peeled(store, commit.identifier.encode()), target, self._limits.archive)
                return
            with tempfile.TemporaryDirectory(prefix="lamplighter-git-") as place:
                with self._client(url, MAX_REFS_BYTES + self._limits.pack_bytes) as client:
                    store = _fetch_store(client, commit.identifier, Path(place), self._limits)
                try:
                    write_archive(store, _peeled(store, commit.identifier.encode()), target, self._limits.archive)
                finally:
                    store.close()

    def _is_local(self, url: str) -> bool:
        return self._allow_local_paths and url.startswith("file://")

    @contextmanager
    def _client(self, url: str, max_bytes: int) -> Iterator[Any]:
        address = check(url, allow_private_hosts=self._allow_private_hosts, lookup=self._lookup)
        from dulwich.client import Urllib3HttpGitClient

        from adapters.githosts.pinned_http import PinnedPool

        user, password = self._credentials(url) or (None, None)
        pool: Any = PinnedPool(address, max_bytes=max_bytes, seconds=self._limits.seconds)
        try:
            yield Urllib3HttpGitClient(
                address.url, pool_manager=pool, username=user, password=password, thin_packs=False, quiet=True
            )
        finally:
            pool.close()

    def _tip(self, client: Any, ref: str) -> tuple[bytes, str]:
        """What to ask for, and the commit that is meant: they differ for an annotated tag."""
        if _SHA.fullmatch(ref):
            return ref.encode(), ref
        names = _names(ref)
        refs = client.get_refs("", ref_prefix=names).refs
        wanted = _pick(refs, ref)
        name = next(name for name in names if refs.get(name) == wanted)
        return wanted, (refs.get(name + b"^{}") or wanted).decode()


def _names(ref: str) -> list[bytes]:
    if ref == "HEAD" or ref.startswith("refs/"):
        return [ref.encode()]
    return [b"refs/heads/" + ref.encode(), b"refs/tags/" + ref.encode()]


def _pick(refs: Any, ref: str) -> bytes:
    if _SHA.fullmatch(ref):
        return ref.encode()
    for name in _names(ref):
        sha: bytes | None = refs.get(name)
        if sha:
            return sha
    raise NotFound(f'There is no branch or tag "{ref}" in the repository.')


class _Found(Exception):
    def __init__(self, content: bytes) -> None:
        self.content = content
        super().__init__()


def _fetch_commit(client: Any, wanted: bytes, sha: str) -> Any:
    """Commits lead a pack, so the transfer is ended as soon as ours has come."""
    beginning = bytearray()
    next_look = 0

    def take(data: bytes) -> int:
        nonlocal next_look
        beginning.extend(data)
        if len(beginning) >= next_look:
            next_look = 2 * len(beginning)
            look()
        if len(beginning) > MAX_BEGINNING:
            raise Unavailable("The git host did not send the commit before its files; try again.")
        return len(data)

    def look() -> None:
        if len(beginning) > 12 and (content := find_commit(bytes(beginning), sha)) is not None:
            raise _Found(content)

    from dulwich.objects import Commit

    try:
        _fetch(client, wanted, take)
        look()
    except _Found as found:
        return Commit.from_string(found.content)
    raise NotFound(f"There is no commit {sha} in the repository.")


def _fetch_store(client: Any, sha: str, place: Path, limits: GitLimits) -> Any:
    from dulwich.object_store import DiskObjectStore

    store = DiskObjectStore.init(str(place / "objects"))
    file, finish, abort = store.add_pack()

    def take(data: bytes) -> int:
        if file.tell() + len(data) > limits.pack_bytes:
            raise refused(f"The commit is larger than {limits.pack_bytes} bytes packed; keep large files in a store.")
        return file.write(data)

    try:
        _fetch(client, sha.encode(), take)
        file.flush()
        file.seek(0)
        check_pack(file, object_bytes=limits.object_bytes, total_bytes=2 * limits.archive.total_bytes)
        file.seek(0, 2)
    except BaseException:
        abort()
        raise
    finish()
    return store


def _fetch(client: Any, wanted: bytes, take: Callable[[bytes], int]) -> None:
    from dulwich.object_store import ObjectStoreGraphWalker

    client.fetch_pack(
        "",
        lambda _refs, **_options: [wanted],
        ObjectStoreGraphWalker([], lambda _sha: []),
        take,
        depth=1,
        ref_prefix=[b"HEAD"],
    )


@contextmanager
def _local_store(url: str) -> Iterator[tuple[Any, Any]]:
    from dulwich.repo import Repo

    path = unquote(urlsplit(url).path)
    if urlsplit(url).netloc or not path.startswith("/") or "\0" in path:
        raise refused("A local repository's URL is file:// and an absolute path.")
    with Repo(path) as repo:
        yield repo.object_store, repo.get_refs()


def _peeled(store: Any, sha: bytes) -> Any:
    try:
        found = store[sha]
        for _ in range(5):
            if found.type_name != b"tag":
                break
            found = store[found.object[1]]
    except KeyError as error:
        raise NotFound(f"There is no commit {sha.decode()} in the repository.") from error
    if found.type_name != b"commit":
        raise NotFound(f"{sha.decode()} is no commit.")
    return found


def _commit(commit: Any, ref: str) -> GitCommit:
    message = commit.message.decode("utf-8", "replace").replace("\0", "")[:MAX_MESSAGE]
    try:
        time = datetime.fromtimestamp(commit.commit_time, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise Invalid({"ref": [f"The commit {commit.id.decode()} has a time that no calendar holds."]}) from error
    return GitCommit(commit.id.decode(), ref, message, time)


@contextmanager
def _explained(url: str, what: str) -> Iterator[None]:
    """Turns whatever the git library raises, on whatever the host sent, into one of our errors."""
    from dulwich.errors import GitProtocolError, NotGitRepository

    where = f'"{what}" of {url[:200]}'
    try:
        yield
    except LamplighterError:
        raise
    except NotGitRepository as error:
        raise NotFound(f"Fetching {where} failed: there is no repository; check the URL.") from error
    except GitProtocolError as error:
        raise Unavailable(f"Fetching {where} failed: {str(error)[:200]}; try again.") from error
    except OSError as error:
        raise Unavailable(f"Fetching {where} failed: {error}; try again.") from error
    except Exception as error:
        raise Unavailable(
            f"Fetching {where} failed: the answer could not be understood ({type(error).__name__}); try again."
        ) from error
