"""Code comes in as an upload or from a repository, is kept by content, and is found again by what people type."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from adapters.metadata.memory import MemoryMetadata
from adapters.stores.memory import MemoryStore
from lamplighter import keys
from lamplighter.domain.projects import Commit, Project
from lamplighter.errors import Invalid, NotFound, TooLarge, Unavailable
from lamplighter.records import walk_together
from lamplighter.usecases import projects
from lamplighter.usecases.commits import (
    FetchResult,
    Package,
    fetch_repository,
    get_commit,
    import_package,
    list_commits,
)
from lamplighter.world import Installation, World
from tests.doubles import (
    TRAIN_STEP,
    TRAIN_YAML,
    MemoryGit,
    MemoryStores,
    a_member,
    make_world,
    targz,
)
from tests.faults import FaultMetadata, FaultPlan, FaultStore, Scenario, enumerate_faults

ADA = a_member("ada")
STRANGER = a_member("eve", organisation="org-2")
CODE = targz({"valohai.yaml": TRAIN_YAML, "train.py": b"print(1)"})
URL = "https://git.example/mnist.git"
SHA = "0123456789abcdef0123456789abcdef01234567"
LATER = "01234567ffffffffffffffffffffffffffffffff"


def package(content: bytes) -> Package:
    return Package(lambda: io.BytesIO(content), hashlib.sha256(content).hexdigest(), len(content))


def project_in(world: World, name: str = "mnist", **changes: object) -> Project:
    made = projects.create_project(ADA, name, world=world)
    return projects.update_project(ADA, made.id, changes, world=world)


def upload(world: World, project: Project, content: bytes = CODE, yaml_path: str = "valohai.yaml") -> Commit:
    return import_package(ADA, project.id, package(content), description="d", yaml_path=yaml_path, world=world)


def with_repository(git: MemoryGit) -> tuple[World, Project]:
    world = make_world(git=git)
    return world, project_in(world, repository={"url": URL, "ref": "main"})


def test_an_upload_becomes_a_commit_named_by_its_bytes():
    store = MemoryStore()
    world = make_world(stores=MemoryStores({"default": store}))
    project = project_in(world)

    commit = upload(world, project)

    assert commit.identifier == "~" + hashlib.sha256(CODE).hexdigest()
    assert (commit.adhoc, commit.ref, commit.description) == (True, "adhoc", "d")
    assert commit.config[0]["step"]["name"] == "train"
    assert b"".join(store.get(commit.archive_key)) == CODE
    assert commit.archive_key == f"code/{project.id}/{commit.archive_sha256}.tgz"


def test_the_same_bytes_again_are_the_same_commit():
    world = make_world()
    project = project_in(world)

    first = upload(world, project)
    second = upload(world, project)

    assert second == first
    assert list_commits(ADA, project.id, adhoc=None, limit=10, world=world) == [first]


def test_one_archive_may_live_in_two_projects():
    world = make_world()
    one, other = project_in(world, "one"), project_in(world, "other")

    first, second = upload(world, one), upload(world, other)

    assert first.identifier == second.identifier
    assert {first.project_id, second.project_id} == {one.id, other.id}


def test_a_file_is_packed_up_with_its_digest(tmp_path: Path):
    file = tmp_path / "code.tgz"
    file.write_bytes(CODE)

    packed = Package.at(file)

    with packed.open() as stream:
        assert stream.read() == CODE
    assert (packed.sha256, packed.size) == (hashlib.sha256(CODE).hexdigest(), len(CODE))


@pytest.mark.parametrize(
    ("content", "yaml_path", "field"),
    [
        (targz({"train.py": b""}), "valohai.yaml", "yaml_path"),
        (CODE, "other.yaml", "yaml_path"),
        (CODE, "../valohai.yaml", "yaml_path"),
        (CODE, "/valohai.yaml", "yaml_path"),
        (CODE, "a" * 256, "yaml_path"),
        (CODE, "", "yaml_path"),
        (b"not an archive", "valohai.yaml", "data"),
        (targz({"../evil": b"", "valohai.yaml": TRAIN_YAML}), "valohai.yaml", "data"),
        (targz({"valohai.yaml": b"{]"}), "valohai.yaml", "yaml"),
    ],
)
def test_code_that_cannot_be_used_is_refused_and_leaves_nothing(content: bytes, yaml_path: str, field: str):
    store = MemoryStore()
    world = make_world(stores=MemoryStores({"default": store}))
    project = project_in(world)

    with pytest.raises(Invalid) as refused:
        upload(world, project, content, yaml_path)

    assert list(refused.value.fields) == [field]
    assert list(store.list("")) == []
    assert list_commits(ADA, project.id, adhoc=None, limit=10, world=world) == []


def test_an_upload_beyond_the_limit_is_told_the_way_out():
    world = make_world(installation=Installation("i", "https://lamplighter.test", max_upload_bytes=10))
    project = project_in(world)

    with pytest.raises(TooLarge, match="use a git repository"):
        upload(world, project)


def test_nobody_uploads_into_a_project_of_another_organisation():
    world = make_world()
    project = project_in(world)

    with pytest.raises(NotFound):
        import_package(STRANGER, project.id, package(CODE), description="", yaml_path="valohai.yaml", world=world)


def test_a_commit_is_found_without_a_project_by_those_who_may_read_it():
    world = make_world()
    theirs = projects.create_project(STRANGER, "theirs", world=world)
    import_package(STRANGER, theirs.id, package(CODE), description="", yaml_path="valohai.yaml", world=world)
    mine = upload(world, project_in(world))
    later = projects.create_project(STRANGER, "later", world=world)
    import_package(STRANGER, later.id, package(CODE), description="", yaml_path="valohai.yaml", world=world)

    found = get_commit(ADA, mine.identifier, world=world)

    assert found == mine


@pytest.mark.parametrize("identifier", ["~" + "0" * 64, "012345", "main", "", "x" * 5000, "~", "\n", "../.."])
def test_an_unknown_commit_is_not_found_with_or_without_a_project(identifier: str):
    world = make_world()
    project = project_in(world)

    with pytest.raises(NotFound):
        get_commit(ADA, identifier, world=world)
    with pytest.raises(NotFound):
        get_commit(ADA, identifier, project.id, world=world)


def test_a_fetch_keeps_what_the_ref_means_now():
    git = MemoryGit()
    world, project = with_repository(git)
    git.push(URL, "main", SHA, {"valohai.yaml": TRAIN_YAML}, message="first")

    found = fetch_repository(ADA, project.id, world=world)

    commit = get_commit(ADA, SHA, project.id, world=world)
    assert found == FetchResult([("main", SHA)], [])
    assert (commit.adhoc, commit.ref, commit.description) == (False, "main", "first")
    assert commit.config[0]["step"] == json.loads(TRAIN_YAML)[0]["step"]
    assert world.stores.named("default").head(commit.archive_key).size == commit.archive_size


def test_a_fetch_without_news_changes_nothing():
    git = MemoryGit()
    world, project = with_repository(git)
    git.push(URL, "main", SHA, {"valohai.yaml": TRAIN_YAML})
    fetch_repository(ADA, project.id, world=world)
    before = get_commit(ADA, SHA, project.id, world=world)

    again = fetch_repository(ADA, project.id, world=world)

    assert again == FetchResult([("main", SHA)], [])
    assert list_commits(ADA, project.id, adhoc=False, limit=10, world=world) == [before]


def test_a_ref_means_what_the_last_fetch_saw_even_after_it_was_moved_back():
    git = MemoryGit()
    world, project = with_repository(git)
    for sha in (SHA, LATER, SHA):
        git.push(URL, "main", sha, {"valohai.yaml": TRAIN_YAML})
        fetch_repository(ADA, project.id, world=world)

    found = get_commit(ADA, "main", project.id, world=world)

    assert found.identifier == SHA


def test_the_beginning_of_a_sha_is_enough_if_it_fits_one_commit():
    git = MemoryGit()
    world, project = with_repository(git)
    for sha in (SHA, LATER):
        git.push(URL, "main", sha, {"valohai.yaml": TRAIN_YAML})
        fetch_repository(ADA, project.id, world=world)

    found = get_commit(ADA, SHA[:9], project.id, world=world)

    assert found.identifier == SHA
    with pytest.raises(NotFound, match="Several commits"):
        get_commit(ADA, SHA[:6], project.id, world=world)
    with pytest.raises(NotFound):
        get_commit(ADA, SHA[:5], project.id, world=world)


@pytest.mark.parametrize(
    ("files", "why"),
    [({"train.py": b""}, 'no file "valohai.yaml"'), ({"valohai.yaml": b"{]"}, "")],
)
def test_a_fetched_commit_that_cannot_be_run_is_kept_with_the_reason(files: dict[str, bytes], why: str):
    git = MemoryGit()
    world, project = with_repository(git)
    git.push(URL, "main", SHA, files)

    found = fetch_repository(ADA, project.id, world=world)

    commit = get_commit(ADA, SHA, project.id, world=world)
    assert found.commits == [("main", SHA)]
    assert found.errors == [f"main {SHA[:12]}: {commit.config_error}"]
    assert why in commit.config_error
    assert commit.config_error
    assert commit.config == ()


def test_a_corrected_yaml_path_is_used_at_the_next_fetch():
    git = MemoryGit()
    world, project = with_repository(git)
    git.push(URL, "main", SHA, {"ml/valohai.yaml": TRAIN_YAML})
    fetch_repository(ADA, project.id, world=world)

    projects.update_project(ADA, project.id, {"yaml_path": "ml/valohai.yaml"}, world=world)
    found = fetch_repository(ADA, project.id, world=world)

    assert found.errors == []
    assert get_commit(ADA, SHA, project.id, world=world).config
    assert len(list_commits(ADA, project.id, adhoc=None, limit=10, world=world)) == 1


def test_a_git_host_that_fails_is_answered_with_a_sentence():
    git = MemoryGit(fault=Unavailable("the host did not answer"))
    world, project = with_repository(git)

    found = fetch_repository(ADA, project.id, world=world)

    assert found == FetchResult([], [f"{URL} main: the host did not answer"])


def test_a_repository_beyond_the_limit_is_answered_with_a_sentence():
    git = MemoryGit()
    world = make_world(git=git, installation=Installation("i", "https://lamplighter.test", max_upload_bytes=10))
    project = project_in(world, repository={"url": URL})
    git.push(URL, "main", SHA, {"valohai.yaml": TRAIN_YAML})

    found = fetch_repository(ADA, project.id, world=world)

    assert found.commits == []
    assert "this installation takes 10" in found.errors[0]


def test_a_project_without_a_repository_is_told_how_to_get_one():
    world = make_world()
    project = project_in(world)

    found = fetch_repository(ADA, project.id, world=world)

    assert found.commits == []
    assert f"PATCH /api/v0/projects/{project.id}/" in found.errors[0]
    assert '{"repository": {"url": "https://...", "ref": "main"}}' in found.errors[0]


def test_commits_are_listed_newest_first_and_by_kind():
    git = MemoryGit()
    world, project = with_repository(git)
    git.push(URL, "main", SHA, {"valohai.yaml": TRAIN_YAML})
    fetch_repository(ADA, project.id, world=world)
    uploads = [upload(world, project, targz({"valohai.yaml": TRAIN_YAML, "n": bytes([n])})) for n in range(3)]

    both = list_commits(ADA, project.id, adhoc=None, limit=10, world=world)
    adhoc = list_commits(ADA, project.id, adhoc=True, limit=2, world=world)
    from_git = list_commits(ADA, None, adhoc=False, limit=10, world=world)

    assert [c.identifier for c in both] == [*[c.identifier for c in reversed(uploads)], SHA]
    assert [c.identifier for c in adhoc] == [uploads[2].identifier, uploads[1].identifier]
    assert [c.identifier for c in from_git] == [SHA]
    assert list_commits(STRANGER, None, adhoc=None, limit=10, world=world) == []


def test_a_configuration_that_no_record_can_hold_is_refused():
    wide = [{"step": {**TRAIN_STEP, "name": f"s{n}", "description": "x" * 200}} for n in range(400)]
    folded = json.dumps(wide, ensure_ascii=False)

    class Unfolding:
        def read(self, text: bytes) -> list[object]:
            return wide * 3

    world = make_world(blueprints=Unfolding())
    project = project_in(world)

    with pytest.raises(Invalid) as refused:
        upload(world, project, targz({"valohai.yaml": folded.encode()}))

    assert list(refused.value.fields) == ["yaml"]


def test_whatever_happens_to_an_upload_the_commit_is_whole_and_its_bytes_are_there():
    def prepare(plan: FaultPlan) -> World:
        stores = MemoryStores({"default": FaultStore(MemoryStore(), plan)})
        world = make_world(metadata=FaultMetadata(MemoryMetadata(), plan), stores=stores)
        project_in(world)
        return world

    def act(world: World) -> None:
        upload(world, projects.list_projects(ADA, world=world)[0])

    def check(world: World) -> None:
        (commit,) = list_commits(ADA, None, adhoc=True, limit=10, world=world)
        assert get_commit(ADA, commit.identifier, world=world) == commit
        assert world.stores.named("default").head(commit.archive_key).size == len(CODE)
        actions = [row.value["action"] for row in walk_together(world.metadata, keys.audit_partitions("org-1"))]
        assert actions.count("commit.import") == 1

    found = enumerate_faults(Scenario(world=prepare, act=act), check, pairs=True)

    assert found.effects == 2
