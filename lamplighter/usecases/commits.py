"""Commits: uploaded packages and fetched git trees, stored by content, and how a client finds one again."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamplighter import keys
from lamplighter.domain.projects import Commit, Principal, Project, Repository
from lamplighter.errors import Invalid, LamplighterError, NotFound
from lamplighter.intents import record
from lamplighter.ports import ABSENT, GitCommit, Put, Record, Write
from lamplighter.records import Stored, again_on_conflict, find, find_many, new
from lamplighter.usecases import bounds
from lamplighter.usecases.access import need_project, readable_projects
from lamplighter.usecases.code_archives import Package, read_config, refuse_size, store_archive
from lamplighter.world import World

__all__ = ["FetchResult", "Package", "fetch_repository", "get_commit", "import_package", "list_commits"]

ADHOC_REF = "adhoc"
MAX_LISTED = 10_000
_IDENTIFIER = re.compile(r"~[0-9a-f]{64}|[0-9a-f]{40}")
_PREFIX = re.compile(r"[0-9a-f]{6,39}")


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch found: (ref, identifier) of each commit, and what went wrong, as sentences."""

    commits: list[tuple[str, str]]
    errors: list[str]


def import_package(
    principal: Principal, project_id: str, package: Package, *, description: str, yaml_path: str, world: World
) -> Commit:
    """The commit `~<sha256>` of these very bytes. The same bytes again give the same commit, as it was.

    Raises `Invalid` for an archive or a `valohai.yaml` that cannot be used, `TooLarge`, `NotFound`.
    """
    project = need_project(principal, project_id, world=world).value
    yaml_path = bounds.relative_path("yaml_path", yaml_path)
    description = bounds.text("description", description, most=bounds.DESCRIPTION)
    refuse_size(package, world=world)
    known = find(world.metadata, Commit, keys.commit(project_id, f"~{package.sha256}"))
    if known:
        return known.value
    config = read_config(package, yaml_path, world=world)
    now = world.now()
    commit = Commit(
        identifier=f"~{package.sha256}",
        project_id=project_id,
        organisation_id=project.organisation_id,
        adhoc=True,
        ref=ADHOC_REF,
        commit_time=now,
        ctime=now,
        archive_key=store_archive(package, project_id, world=world),
        archive_sha256=package.sha256,
        archive_size=package.size,
        archive_store=world.stores.home("code"),
        description=description,
        yaml_path=yaml_path,
        config=config,
        creator_name=principal.username,
    )
    return _add(principal, commit, world=world)


def get_commit(principal: Principal, identifier: str, project_id: str | None = None, *, world: World) -> Commit:
    """The commit with this identifier; within a project also by the beginning of a git sha, or the newest of a ref.

    Raises `NotFound`, also when a beginning fits several commits.
    """
    if project_id is None:
        return _anywhere(principal, identifier, world)
    need_project(principal, project_id, world=world)
    found = _exact(project_id, identifier, world) or _of_ref(project_id, identifier, world)
    if found:
        return found
    if _PREFIX.fullmatch(identifier):
        return _by_prefix(project_id, identifier, world)
    raise NotFound(_unknown(identifier))


def list_commits(
    principal: Principal, project_id: str | None, *, adhoc: bool | None, limit: int, world: World
) -> list[Commit]:
    """At most `limit` commits, newest first, of one project or of all that the caller may read. `adhoc` None means both."""
    if project_id is not None:
        projects = [need_project(principal, project_id, world=world).value]
    else:
        projects = readable_projects(principal, world=world)
    limit = min(limit, MAX_LISTED)
    found = [commit for project in projects for commit in _newest(project.id, adhoc, limit, world)]
    return sorted(found, key=lambda commit: commit.ctime, reverse=True)[: max(0, limit)]


def fetch_repository(principal: Principal, project_id: str, *, world: World) -> FetchResult:
    """Look what the project's ref means now, and keep that tree. Repeatable; every failure is a sentence in `errors`.

    Raises `NotFound` for a project the caller may not see, and nothing else that can be explained.
    """
    project = need_project(principal, project_id, world=world).value
    repository = project.repository
    if not repository:
        return FetchResult([], [_NO_REPOSITORY.format(project=project)])
    try:
        commit = _fetch(principal, project, repository, world)
    except LamplighterError as error:
        return FetchResult([], [f"{repository.url} {repository.ref}: {error}"])
    errors = [f"{repository.ref} {commit.identifier[:12]}: {commit.config_error}"] if commit.config_error else []
    return FetchResult([(repository.ref, commit.identifier)], errors)


_NO_REPOSITORY = (
    "Project {project.name} has no repository. Set one first: PATCH /api/v0/projects/{project.id}/ with "
    '{{"repository": {{"url": "https://...", "ref": "main"}}}}'
)


@again_on_conflict
def _add(principal: Principal, commit: Commit, *, world: World) -> Commit:
    """Record a commit unless somebody else just has. The project must still be there when it lands."""
    project = need_project(principal, commit.project_id, world=world)
    known = find(world.metadata, Commit, keys.commit(commit.project_id, commit.identifier))
    if known and (commit.adhoc or known.value.yaml_path == commit.yaml_path):
        return known.value
    if known:
        commit = replace(commit, ctime=known.value.ctime)
    action = "commit.import" if commit.adhoc else "commit.fetch"
    trace = record(
        world, commit.organisation_id, principal.username, action, commit.identifier, project=project.value.id
    )
    world.metadata.transact([*_rows(commit, known), project.unchanged(), trace])
    return commit


def _rows(commit: Commit, known: Stored[Commit] | None) -> list[Write]:
    if known:
        return [known.becomes(commit)]
    pointer = {"project_id": commit.project_id, "identifier": commit.identifier}
    return [
        new(keys.commit(commit.project_id, commit.identifier), commit),
        new(keys.commit_by_age(commit.project_id, commit.ctime, commit.identifier), pointer),
        new(keys.commit_anywhere(commit.identifier, commit.project_id), pointer),
    ]


def _exact(project_id: str, identifier: str, world: World) -> Commit | None:
    if not _IDENTIFIER.fullmatch(identifier):
        return None
    found = find(world.metadata, Commit, keys.commit(project_id, identifier))
    return found.value if found else None


def _of_ref(project_id: str, name: str, world: World) -> Commit | None:
    if not 0 < len(name) <= bounds.NAME or not name.isprintable():
        return None
    pointer = world.metadata.get(keys.ref(project_id, name))
    return _exact(project_id, str(pointer.value["identifier"]), world) if pointer else None


def _by_prefix(project_id: str, prefix: str, world: World) -> Commit:
    partition = keys.commit(project_id, prefix).partition
    rows = world.metadata.query(partition, prefix=prefix, limit=2).records
    if len(rows) > 1:
        raise NotFound(f"Several commits of this project begin with {prefix}: give more of the sha.")
    found = _exact(project_id, rows[0].key.sort, world) if rows else None
    if not found:
        raise NotFound(_unknown(prefix))
    return found


def _anywhere(principal: Principal, identifier: str, world: World) -> Commit:
    if _IDENTIFIER.fullmatch(identifier):
        partition = keys.commit_anywhere(identifier, "-").partition
        for row in world.metadata.query(partition, newest_first=True).records:
            try:
                need_project(principal, row.key.sort, world=world)
            except NotFound:
                continue
            found = _exact(row.key.sort, identifier, world)
            if found:
                return found
    raise NotFound(_unknown(identifier))


def _unknown(identifier: str) -> str:
    return f"There is no commit {identifier[:80]!r} here. Fetch the project's repository, or upload the code."


def _newest(project_id: str, adhoc: bool | None, limit: int, world: World) -> Iterator[Commit]:
    """Reads as many records as it needs, in steps, since which are ad hoc is only known once they are read."""
    left = limit
    for rows in _pages(keys.commit_by_age(project_id, world.now(), "-").partition, world):
        wanted = [keys.commit(project_id, str(row.value["identifier"])) for row in rows]
        for stored in find_many(world.metadata, Commit, wanted):
            if left > 0 and adhoc in (None, stored.value.adhoc):
                left -= 1
                yield stored.value
        if left <= 0:
            return


def _pages(partition: str, world: World) -> Iterator[tuple[Record, ...]]:
    cursor = None
    while True:
        page = world.metadata.query(partition, newest_first=True, limit=100, cursor=cursor)
        yield page.records
        cursor = page.cursor
        if cursor is None:
            return


def _fetch(principal: Principal, project: Project, repository: Repository, world: World) -> Commit:
    head = world.git.resolve(repository.url, repository.ref)
    if not re.fullmatch("[0-9a-f]{40}", head.identifier):
        raise Invalid.because(f"the git host answered with {head.identifier[:80]!r}, which is no commit")
    commit = _exact(project.id, head.identifier, world)
    if not commit or commit.yaml_path != project.yaml_path:
        commit = _add(principal, _archived(principal, project, repository, head, world), world=world)
    _point_ref(principal, project, repository.ref, commit, world=world)
    return commit


def _archived(principal: Principal, project: Project, repository: Repository, head: GitCommit, world: World) -> Commit:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree.tgz"
        with tree.open("wb") as file:
            world.git.archive(repository.url, head, file)
        package = Package.at(tree)
        refuse_size(package, world=world)
        config, config_error = _config_or_fault(package, project.yaml_path, world)
        archive_key = store_archive(package, project.id, world=world)
    return Commit(
        identifier=head.identifier,
        project_id=project.id,
        organisation_id=project.organisation_id,
        adhoc=False,
        ref=repository.ref,
        commit_time=head.time,
        ctime=world.now(),
        archive_key=archive_key,
        archive_sha256=package.sha256,
        archive_size=package.size,
        archive_store=world.stores.home("code"),
        description=head.message.encode(errors="replace").decode()[: bounds.DESCRIPTION],
        yaml_path=project.yaml_path,
        config=config,
        config_error=config_error,
        creator_name=principal.username,
    )


def _config_or_fault(package: Package, yaml_path: str, world: World) -> tuple[tuple[Any, ...], str]:
    """A git commit is kept even when it cannot be run, with the reason: that is what its author has to see."""
    try:
        return read_config(package, yaml_path, world=world), ""
    except Invalid as error:
        return (), str(error)


@again_on_conflict
def _point_ref(principal: Principal, project: Project, ref: str, commit: Commit, *, world: World) -> None:
    key = keys.ref(project.id, ref)
    before = world.metadata.get(key)
    if before and before.value["identifier"] == commit.identifier:
        return
    pointer = Put(key, {"identifier": commit.identifier}, before.version if before else ABSENT)
    trace = record(
        world, project.organisation_id, principal.username, "ref.move", project.id, ref=ref, to=commit.identifier
    )
    world.metadata.transact([pointer, trace])
