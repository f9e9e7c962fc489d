"""What several suites share: servers and repositories, each started or made only when a test needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.clouds.local import LocalCloud
from adapters.githosts.bare_git import BareGit
from adapters.metadata.memory import MemoryMetadata
from adapters.metadata.sqlite import SqliteMetadata
from lamplighter.ports import GitHost, Metadata
from tests.conformance.cloud_places import SLEEPER, pids, put_out
from tests.conformance.git_places import GitServer, commit, git, push
from tests.conformance.metadata_places import IN_PROCESS, KEYS, ON_SERVERS, Table, moto_server
from tests.emulators.dynamodb_local import DynamoDbLocal
from tests.faults import FaultMetadata, FaultPlan

Tables = Callable[[str, str], Table]


@pytest.fixture(scope="session")
def dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a DynamoDB Local."""
    with DynamoDbLocal(tmp_path_factory.mktemp("dynamodb-local")) as server:
        yield server.url


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a moto server."""
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region in the environment, as in a Lambda function."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def dynamodb_tables(request: pytest.FixtureRequest, aws_keys: None, made_tables: dict[str, Table]) -> Iterator[Tables]:
    """Gives an empty table with an adapter, by its name, on a server, by its name."""
    given: list[Table] = []

    def give(adapter: str, server: str) -> Table:
        name = f"{adapter} on {server}"
        if name not in made_tables:
            url = request.getfixturevalue({"DynamoDB Local": "dynamodb_local", "moto": "moto"}[server])
            made_tables[name] = Table(adapter, url)
        given.append(made_tables[name])
        return given[-1]

    yield give
    for table in given:
        table.empty()


@pytest.fixture(scope="session")
def made_tables() -> dict[str, Table]:
    """Each adapter's table on each server, once it was asked for."""
    return {}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """A git server on loopback that serves nothing yet."""
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


@pytest.fixture
def host() -> GitHost:
    """The adapter, open to this machine, where the servers of the suites are."""
    return BareGit(allow_private_hosts=True, allow_local_paths=True)


@pytest.fixture
def make_local(tmp_path: Path) -> Iterator[Callable[..., LocalCloud]]:
    """Makes local clouds, and puts out at the end whatever runs in them."""
    made: list[LocalCloud] = []

    def make(directory: Path = tmp_path / "cloud", **options: Any) -> LocalCloud:
        made.append(LocalCloud(directory, **{"worker_command": SLEEPER, "grace_seconds": 0.2, **options}))
        return made[-1]

    yield make
    for cloud in made:
        for installation in ("ours", "theirs"):
            for machine in cloud.describe(installation):
                put_out(cloud, machine.machine_id)
    assert pids(tmp_path) == set()


@pytest.fixture(params=[*IN_PROCESS, *ON_SERVERS])
def metadata(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Metadata]:
    """An empty place for records, of each adapter in turn."""
    if request.param in ON_SERVERS:
        adapter, _, server = request.param.partition(" on ")
        yield request.getfixturevalue("dynamodb_tables")(adapter, server).metadata
    elif request.param == "sqlite":
        opened = SqliteMetadata(tmp_path / "metadata.db")
        yield opened
        opened.close()
    else:
        memory = MemoryMetadata(page_records=3)
        yield memory if request.param == "memory" else FaultMetadata(memory, FaultPlan())
