"""Data are listed, downloaded, purged, described and named; never across organisations."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from adapters.metadata.memory import MemoryMetadata
from adapters.stores.memory import MemoryStore
from lamplighter import keys
from lamplighter.domain.data import Datum
from lamplighter.domain.executions import Execution
from lamplighter.domain.projects import Project
from lamplighter.errors import Invalid, NotFound
from lamplighter.records import need, new, walk_together
from lamplighter.usecases import data, projects
from lamplighter.world import World
from tests.doubles import ORGANISATION, START, MemoryStores, a_member, make_world
from tests.faults import FaultMetadata, FaultPlan, Scenario, enumerate_faults

ADA = a_member("ada")
STRANGER = a_member("eve", organisation="org-2")


class Shelf:
    """A project with data on it."""

    def __init__(self, world: World | None = None) -> None:
        self.store = MemoryStore()
        self.world = world or make_world(stores=MemoryStores({"default": self.store}))
        self.project: Project = projects.create_project(ADA, "mnist", world=self.world)

    def add(self, name: str = "model.bin", **more: Any) -> Datum:
        """A datum with the bytes "weights", listed in the project, and as an output if it has an execution."""
        datum_id = self.world.new_id()
        datum = Datum(
            id=datum_id,
            organisation_id=ORGANISATION,
            project_id=self.project.id,
            name=name,
            size=7,
            store="default",
            object_key=f"data/{datum_id}",
            uri=f"memory://default/data/{datum_id}",
            ctime=self.world.now(),
            stored=True,
        )
        datum = replace(datum, **more)
        writes = [
            new(keys.datum(datum_id), datum),
            new(keys.datum_in_project(self.project.id, datum_id), {"datum_id": datum_id}),
        ]
        if datum.execution_id:
            writes.append(new(keys.output(datum.execution_id, datum_id), {"datum_id": datum_id}))
        self.world.metadata.transact(writes)
        self.store.put(datum.object_key, io.BytesIO(b"weights"), size=7)
        return datum

    def read(self, datum: Datum) -> Datum:
        return need(self.world.metadata, Datum, keys.datum(datum.id), "it").value

    def names(self, **wanted: Any) -> list[str]:
        found, _ = data.list_data(ADA, **({"limit": 100, "offset": 0} | wanted), world=self.world)
        return [datum.name for datum in found]

    def resolve(self, url: str) -> str:
        return data.resolve_input_url(ADA, self.project, url, world=self.world)


def add_execution(shelf: Shelf, epoch_n: int) -> str:
    execution = Execution(
        id=shelf.world.new_id(),
        organisation_id=ORGANISATION,
        project_id=shelf.project.id,
        counter=1,
        creator_id="user-ada",
        creator_name="ada",
        commit="c",
        adhoc=True,
        step="train",
        environment_id="env",
        environment_slug="env",
        image="i",
        command=("c",),
        script="c",
        ctime=START,
        mtime=START,
        epoch_n=epoch_n,
    )
    shelf.world.metadata.transact([new(keys.execution(execution.id), execution)])
    return execution.id


def test_data_are_listed_newest_first_in_pages_with_their_number():
    shelf = Shelf()
    for n in range(300):
        shelf.add(f"f{n:03d}")

    page, count = data.list_data(ADA, project_id=shelf.project.id, limit=3, offset=2, world=shelf.world)

    assert [d.name for d in page] == ["f297", "f296", "f295"]
    assert count == 300
    assert shelf.names(newest_first=False, limit=2) == ["f000", "f001"]


def test_data_are_found_by_name_and_by_tag():
    shelf = Shelf()
    shelf.add("a", tags=("good",))
    shelf.add("b", tags=("bad", "good"))
    shelf.add("a")

    assert shelf.names(tag="good") == ["b", "a"]
    assert shelf.names(name="a") == ["a", "a"]
    assert shelf.names(name="a", tag="bad") == []


def test_what_is_not_stored_or_was_discarded_is_not_shown():
    shelf = Shelf()
    unfinished = shelf.add("unfinished", stored=False)
    shelf.add("lost", discarded=True)
    shelf.add("purged", purged=True)

    assert shelf.names() == ["purged"]
    with pytest.raises(NotFound):
        data.get_datum(ADA, unfinished.id, world=shelf.world)


def test_outputs_are_those_of_the_newest_attempt():
    shelf = Shelf()
    execution_id = add_execution(shelf, epoch_n=2)
    shelf.add("first try", execution_id=execution_id, epoch_n=1)
    shelf.add("second try", execution_id=execution_id, epoch_n=2)
    shelf.add("adopted")

    assert shelf.names(execution_id=execution_id) == ["second try"]


def test_another_organisation_finds_nothing_of_it():
    shelf = Shelf()
    execution_id = add_execution(shelf, epoch_n=1)
    datum = shelf.add(execution_id=execution_id, epoch_n=1)
    world = shelf.world

    for act in (
        lambda: data.get_datum(STRANGER, datum.id, world=world),
        lambda: data.download_target(STRANGER, datum.id, world=world),
        lambda: data.purge_datum(STRANGER, datum.id, world=world),
        lambda: data.add_metadata(STRANGER, datum.id, {"a": 1}, world=world),
        lambda: data.list_data(STRANGER, project_id=shelf.project.id, limit=1, offset=0, world=world),
        lambda: data.list_data(STRANGER, execution_id=execution_id, limit=1, offset=0, world=world),
        lambda: data.list_aliases(STRANGER, shelf.project.id, world=world),
        lambda: data.get_datum(STRANGER, "x" * 5000, world=world),
    ):
        with pytest.raises(NotFound):
            act()

    assert data.list_data(STRANGER, limit=10, offset=0, world=world) == ([], 0)
    assert shelf.read(datum) == datum


def test_a_download_gives_the_bytes_under_the_base_name():
    shelf = Shelf()
    datum = shelf.add("run/model.bin")

    found, target = data.download_target(ADA, datum.id, world=shelf.world)

    assert found == datum
    assert shelf.store.call(target) == b"weights"
    assert target.url.endswith("filename=model.bin")


def test_a_purge_leaves_the_record_and_has_the_bytes_deleted():
    shelf = Shelf()
    datum = shelf.add()
    data.set_alias(ADA, shelf.project.id, "best", datum.id, world=shelf.world)

    data.purge_datum(ADA, datum.id, world=shelf.world)
    data.purge_datum(ADA, datum.id, world=shelf.world)

    intents = [(row.value["kind"], row.value["argument"]) for row in walk_together(shelf.world.metadata, keys.OUTBOX)]
    assert intents == [("delete_object", {"store": "default", "key": datum.object_key})]
    assert shelf.names() == ["model.bin"]
    assert data.resolve_alias(ADA, shelf.project.id, "best", world=shelf.world).purged
    with pytest.raises(NotFound, match="was purged"):
        data.download_target(ADA, datum.id, world=shelf.world)


def test_properties_are_laid_over_older_ones_and_tags_add_up():
    shelf = Shelf()
    datum = shelf.add(metadata={"a": 1, "b": 2}, tags=("old",))

    described = data.add_metadata(ADA, datum.id, {"b": 3, "valohai.tags": ["new", "old"]}, world=shelf.world)

    assert described == shelf.read(datum)
    assert described.metadata == {"a": 1, "b": 3, "valohai.tags": ["new", "old"]}
    assert described.tags == ("old", "new")


def test_an_alias_among_the_properties_takes_effect():
    shelf = Shelf()
    older, newer = shelf.add("older"), shelf.add("newer")
    data.set_alias(ADA, shelf.project.id, "best", newer.id, world=shelf.world)

    data.add_metadata(ADA, older.id, {"valohai.alias": "best"}, world=shelf.world)

    assert data.resolve_alias(ADA, shelf.project.id, "best", world=shelf.world).name == "older"
    assert shelf.read(older).aliases == ("best",)
    assert shelf.read(newer).aliases == ()


@pytest.mark.parametrize(
    "metadata",
    [
        {"valohai.tags": ["x" * 101]},
        {"valohai.tags": 5},
        {"valohai.tags": [f"t{n}" for n in range(51)]},
        {"valohai.alias": ""},
        {"valohai.alias": "a/b"},
        {"valohai.alias": ["a"]},
        {"valohai.alias": "019b8d58-2400-7000-8000-000000000001"},
        {"x": "y" * 70_000},
        {"x": float("nan")},
        {"x": b"bytes"},
        {"\ud800": 1},
        ["list"],
    ],
)
def test_properties_that_cannot_be_kept_change_nothing_of_any_datum(metadata: Any):
    shelf = Shelf()
    one, other = shelf.add("one"), shelf.add("other")

    with pytest.raises(Invalid):
        data.apply_metadata(ADA, {one.id: {"fine": 1}, other.id: metadata}, world=shelf.world)

    assert (shelf.read(one), shelf.read(other)) == (one, other)


def test_one_unknown_datum_among_many_changes_nothing():
    shelf = Shelf()
    one = shelf.add("one")

    with pytest.raises(NotFound):
        data.apply_metadata(ADA, {one.id: {"fine": 1}, "unknown": {}}, world=shelf.world)

    assert shelf.read(one) == one


def test_an_alias_moves_and_both_data_know():
    shelf = Shelf()
    first, second = shelf.add("first"), shelf.add("second")
    data.set_alias(ADA, shelf.project.id, "best", second.id, world=shelf.world)

    data.set_alias(ADA, shelf.project.id, "best", first.id, world=shelf.world)

    ((alias, datum),) = data.list_aliases(ADA, shelf.project.id, world=shelf.world)
    assert (alias.name, alias.datum_id) == ("best", first.id)
    assert datum == shelf.read(first)
    assert shelf.read(first).aliases == ("best",)
    assert shelf.read(second).aliases == ()


def test_a_deleted_alias_is_forgotten_everywhere_and_may_be_deleted_again():
    shelf = Shelf()
    datum = shelf.add()
    data.set_alias(ADA, shelf.project.id, "best", datum.id, world=shelf.world)

    data.delete_alias(ADA, shelf.project.id, "best", world=shelf.world)
    data.delete_alias(ADA, shelf.project.id, "best", world=shelf.world)

    assert data.list_aliases(ADA, None, world=shelf.world) == []
    assert shelf.read(datum).aliases == ()
    with pytest.raises(NotFound):
        data.resolve_alias(ADA, shelf.project.id, "best", world=shelf.world)


def test_a_late_delivery_never_moves_an_alias_back():
    shelf = Shelf()
    older, newer = shelf.add("older", aliases=("best",)), shelf.add("newer", aliases=("best",))

    for datum in (newer, older, newer, older):
        data.point_alias(shelf.project.id, "best", datum.id, world=shelf.world)

    assert data.resolve_alias(ADA, shelf.project.id, "best", world=shelf.world).name == "newer"
    assert shelf.read(older).aliases == ()
    assert shelf.read(newer).aliases == ("best",)


def test_a_wish_for_an_impossible_alias_is_dropped():
    shelf = Shelf()
    hidden = shelf.add("hidden", discarded=True)
    shown = shelf.add("shown")

    data.point_alias(shelf.project.id, "best", hidden.id, world=shelf.world)
    data.point_alias(shelf.project.id, "a/b", shown.id, world=shelf.world)
    data.point_alias(shelf.project.id, "best", "unknown", world=shelf.world)

    assert data.list_aliases(ADA, shelf.project.id, world=shelf.world) == []


def test_an_input_by_alias_is_pinned_to_the_datum_it_means_now():
    shelf = Shelf()
    datum = shelf.add()
    data.set_alias(ADA, shelf.project.id, "best", datum.id, world=shelf.world)

    pinned = shelf.resolve("datum://best")

    assert pinned == f"datum://{datum.id}"
    assert shelf.resolve(pinned.upper().replace("DATUM", "datum")) == pinned


@pytest.mark.parametrize("url", ["https://example.test/a?b=c", "s3://bucket/a*", ""])
def test_other_inputs_stay_as_they_are(url: str):
    assert Shelf().resolve(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "datum://",
        "datum://unknown",
        "datum://019b8d58-2400-7000-8000-00000000ffff",
        "datum://a/b",
        "datum://" + "x" * 3000,
        "datum://\n",
    ],
)
def test_an_input_that_means_nothing_is_refused(url: str):
    with pytest.raises(Invalid):
        Shelf().resolve(url)


def test_an_input_that_was_purged_is_refused():
    shelf = Shelf()
    datum = shelf.add()
    data.purge_datum(ADA, datum.id, world=shelf.world)

    with pytest.raises(Invalid, match=r"model\.bin was purged"):
        shelf.resolve(f"datum://{datum.id}")


def test_whatever_happens_to_a_delivery_the_alias_and_its_data_agree():
    def prepare(plan: FaultPlan) -> Shelf:
        store = MemoryStore()
        stores = MemoryStores({"default": store})
        shelf = Shelf(make_world(metadata=FaultMetadata(MemoryMetadata(), plan), stores=stores))
        shelf.store = store
        first = shelf.add("first")
        shelf.add("second")
        data.set_alias(ADA, shelf.project.id, "best", first.id, world=shelf.world)
        return shelf

    def act(shelf: Shelf) -> None:
        second = data.list_data(ADA, name="second", limit=1, offset=0, world=shelf.world)[0][0]
        data.point_alias(shelf.project.id, "best", second.id, world=shelf.world)

    def check(shelf: Shelf) -> None:
        ((_, datum),) = data.list_aliases(ADA, shelf.project.id, world=shelf.world)
        assert datum
        assert (datum.name, datum.aliases) == ("second", ("best",))
        assert [d.aliases for d in data.list_data(ADA, name="first", limit=1, offset=0, world=shelf.world)[0]] == [()]

    found = enumerate_faults(Scenario(world=prepare, act=act), check)

    assert found.effects == 1
