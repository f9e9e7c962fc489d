"""The small parts that a server is put together from: settings, secrets, ids, stores, the catalogue."""

from __future__ import annotations

import stat
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from adapters.catalogue import CATALOGUE, adapter
from adapters.metadata.memory import MemoryMetadata
from adapters.secrets.file import FileSecrets
from functions.ids import RisingClock, RisingIds
from functions.local.commands import _environment_fields
from functions.settings import default_state, read_settings
from functions.stores import ConfiguredStores, StoreRow, add_store, disk_stores, prove_store, set_default
from functions.wiring import make_world
from lamplighter.errors import Invalid, NotFound, Unavailable
from tests.doubles import MemoryStore


def test_the_command_line_wins_over_the_environment_and_that_over_the_defaults() -> None:
    variables = {"LAMPLIGHTER_STATE": "/s", "LAMPLIGHTER_PORT": "1", "LAMPLIGHTER_MAX_MACHINES": "9"}

    settings = read_settings({"port": "2", "host": None}, variables)

    assert (settings.port, settings.max_machines, settings.host) == (2, 9, "127.0.0.1")
    assert settings.given == {"state", "port", "max_machines"}


def test_settings_are_told_without_the_password() -> None:
    settings = read_settings({"state": "/s"}, {"LAMPLIGHTER_ADMIN_PASSWORD": "hush"})

    assert settings.masked()["admin_password"] == "***"
    assert settings.masked()["state"] == "/s"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", "1e3"),
        ("host", "no host"),
        ("url", "https://x/prod"),
        ("url", "ftp://x"),
        ("runtime", "podman"),
        ("input_networks", "lan"),
        ("behind_proxy", "maybe"),
        ("idle_seconds", "-1"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_settings({"state": "/s", name: value}, {})

    assert set(refused.value.fields) == {name}


def test_the_state_lies_in_the_users_data_unless_somebody_says_otherwise() -> None:
    assert default_state({"HOME": "/home/ada"}) == Path("/home/ada/.local/share/lamplighter")
    assert default_state({"XDG_DATA_HOME": "/d", "HOME": "/h"}) == Path("/d/lamplighter")


def test_a_secret_is_kept_for_this_user_only_and_survives_a_new_process(tmp_path: Path) -> None:
    FileSecrets(tmp_path / "s").put("projects/p1/KEY", "väl\nue")
    FileSecrets(tmp_path / "s").put("projects/p1/KEY", "newer")

    reread = FileSecrets(tmp_path / "s")

    assert reread.get("projects/p1/KEY") == "newer"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()] == [0o600]
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_a_forgotten_secret_is_gone_and_forgetting_it_again_is_no_error(tmp_path: Path) -> None:
    secrets = FileSecrets(tmp_path)
    secrets.put("a", "1")

    secrets.delete("a")
    secrets.delete("a")

    with pytest.raises(NotFound):
        secrets.get("a")


@pytest.mark.parametrize("name", ["", "../x", "a/../b", "/a", "a/", "a//b", "a,b", "a\0b", ".a", "x" * 300])
def test_no_name_of_a_secret_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        FileSecrets(tmp_path).put(name, "x")


def test_names_of_secrets_that_look_alike_are_kept_apart(tmp_path: Path) -> None:
    secrets = FileSecrets(tmp_path)
    for name in ("a/b", "a.b", "a-b", "a_b"):
        secrets.put(name, name)

    assert [secrets.get(name) for name in ("a/b", "a.b", "a-b", "a_b")] == ["a/b", "a.b", "a-b", "a_b"]


def test_ids_rise_and_are_uuids_of_version_seven_from_many_threads_too() -> None:
    new_id = RisingIds()
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda bag=bag: bag.extend(new_id() for _ in range(500))) for bag in made]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(bag == sorted(bag) for bag in made)
    assert len({i for bag in made for i in bag}) == 2000
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for bag in made for i in bag} == {(7, uuid.RFC_4122)}


def test_no_moment_is_given_twice() -> None:
    clock = RisingClock()

    moments = [clock() for _ in range(5000)]

    assert moments == sorted(set(moments))


def test_every_adapter_in_the_catalogue_can_be_loaded() -> None:
    loaded = [adapter(port, name) for port, names in CATALOGUE.items() for name in names]

    assert all(callable(factory) for factory in loaded)


def test_an_unknown_adapter_is_told_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="local_disk, s3"):
        adapter("stores", "floppy")


def _stores(tmp_path: Path) -> tuple[ConfiguredStores, MemoryMetadata, FileSecrets]:
    metadata, secrets = MemoryMetadata(), FileSecrets(tmp_path)
    return disk_stores(metadata, secrets, MemoryStore()), metadata, secrets


def test_an_added_store_is_there_at_once_and_may_become_the_default(tmp_path: Path) -> None:
    stores, metadata, secrets = _stores(tmp_path)
    before = stores.home("outputs")
    keys = {"access_key_id": "id", "secret_access_key": "hush"}

    for name in ("lake", "pond"):
        options = {"bucket": name, "prefix": "ml", "endpoint_url": "http://127.0.0.1:1", "region": "r"}
        add_store(metadata, secrets, StoreRow(name, "s3", options, default=True), keys, prove=lambda _: None)

    assert (before, stores.home("outputs")) == ("local", "pond")
    assert stores.uri("lake", "data/x") == "s3://lake/ml/data/x"
    assert stores.locate("s3://lake/ml/data/x") == ("lake", "data/x")
    assert stores.locate("s3://lake/other/x") is None
    assert stores.locate(stores.uri("local", "data/y")) == ("local", "data/y")
    assert stores.named("lake") is stores.named("lake")
    assert all("hush" not in str(record.value) for record in metadata.query("stores").records)


@pytest.mark.parametrize(
    "row",
    [
        StoreRow("local", "s3", {"bucket": "b"}),
        StoreRow("Up", "s3", {"bucket": "b"}),
        StoreRow("x", "s3", {}),
        StoreRow("x", "s3", {"bucket": "b", "shell": "sh"}),
        StoreRow("x", "s3", {"bucket": "b", "endpoint_url": "nowhere"}),
    ],
)
def test_a_store_that_cannot_be_is_refused(tmp_path: Path, row: StoreRow) -> None:
    _, metadata, secrets = _stores(tmp_path)

    with pytest.raises(Invalid):
        add_store(metadata, secrets, row, {})

    assert metadata.query("stores").records == ()


def test_the_default_store_can_be_taken_back(tmp_path: Path) -> None:
    stores, metadata, secrets = _stores(tmp_path)
    for name in ("lake", "pond"):
        add_store(metadata, secrets, StoreRow(name, "s3", {"bucket": name}, default=True), {}, prove=lambda _: None)
    chosen = []

    for name in ("lake", "lake", "local"):
        set_default(metadata, name)
        chosen.append(stores.home("outputs"))

    assert chosen == ["lake", "lake", "local"]
    with pytest.raises(NotFound, match="local, lake, pond"):
        set_default(metadata, "sea")


def test_a_store_that_works_is_proven_and_left_as_it_was() -> None:
    store = MemoryStore()

    prove_store(store)

    assert list(store.list("")) == []


def test_a_store_that_does_not_answer_is_refused_with_its_own_words_and_leaves_nothing(tmp_path: Path) -> None:
    _, metadata, secrets = _stores(tmp_path)
    options = {"bucket": "b", "endpoint_url": "http://127.0.0.1:1"}
    keys = {"access_key_id": "id", "secret_access_key": "hush"}

    with pytest.raises(Unavailable, match=r"The store lake does not work, and was not added: .*127\.0\.0\.1:1"):
        add_store(metadata, secrets, StoreRow("lake", "s3", options), keys)

    assert metadata.query("stores").records == ()
    assert not list(tmp_path.iterdir())


def test_an_unknown_store_is_told_with_those_there_are(tmp_path: Path) -> None:
    stores, _, _ = _stores(tmp_path)

    with pytest.raises(NotFound, match="local"):
        stores.named("../secrets")


def test_a_world_is_wired_from_settings_alone(tmp_path: Path) -> None:
    world = make_world(read_settings({"state": str(tmp_path), "port": "1234"}, {}))

    assert world.installation.url == "http://127.0.0.1:1234"
    assert world.stores.home("outputs") == "local"
    assert set(world.clouds) == {"local"}


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        (["max_machines=4", "name=Big one"], {"max_machines": 4, "name": "Big one"}),
        (["options.runtime=docker"], {"options": {"pids": 5, "runtime": "docker"}}),
        (["per_hour_price_usd=0.50", "spot=true", "name=7"], {"per_hour_price_usd": "0.50", "spot": True, "name": "7"}),
    ],
)
def test_fields_of_an_environment_are_read_from_the_command_line(pairs: list[str], fields: dict[str, Any]) -> None:
    assert _environment_fields(pairs, {"pids": 5}) == fields
