"""Projects are made once per name, changed by their people, and never shown to another organisation."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.metadata.memory import MemoryMetadata
from lamplighter import keys
from lamplighter.domain.executions import Execution, Status
from lamplighter.domain.projects import Project, Repository, Variable
from lamplighter.errors import Forbidden, Invalid, NotFound
from lamplighter.records import new, walk_together
from lamplighter.usecases import projects
from lamplighter.usecases.environments import create_environment
from lamplighter.world import World
from tests.doubles import ORGANISATION, START, MemorySecrets, a_member, an_admin, make_world
from tests.faults import FaultMetadata, FaultPlan, Scenario, enumerate_faults

ADA = a_member("ada")
BOB = a_member("bob")
STRANGER = a_member("eve", organisation="org-2")


def create(world: World, name: str = "mnist") -> Project:
    return projects.create_project(ADA, name, world=world)


def add_execution(world: World, project: Project, number: int, status: Status) -> None:
    execution = Execution(
        id=f"e{number}",
        organisation_id=ORGANISATION,
        project_id=project.id,
        counter=number,
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
        status=status,
    )
    row = new(keys.execution_by_counter(project.id, number), {"execution_id": execution.id})
    world.metadata.transact([new(keys.execution(execution.id), execution), row])


def test_a_project_is_there_for_everybody_of_the_organisation():
    world = make_world()

    made = projects.create_project(ADA, " Mnist 2.0 ", description="digits", world=world)

    assert made.name == "Mnist 2.0"
    assert made.owner_name == "ada"
    assert projects.get_project(BOB, made.id, world=world) == made
    assert projects.list_projects(BOB, world=world) == [made]


def test_a_name_is_taken_whatever_its_case():
    world = make_world()
    create(world, "mnist")

    with pytest.raises(Invalid) as refused:
        create(world, "MNIST")

    assert refused.value.fields == {"name": (("A project with this name exists already.", "unique"),)}


def test_two_organisations_may_use_one_name():
    world = make_world()
    create(world, "mnist")

    projects.create_project(STRANGER, "mnist", world=world)

    assert len(projects.list_projects(STRANGER, world=world)) == 1


@pytest.mark.parametrize("name", ["", "   ", "a" * 101, "a/b", "../a", "a\nb", "<b>", ".hidden", None, 5])
def test_an_odd_name_is_refused(name: Any):
    with pytest.raises(Invalid) as refused:
        create(make_world(), name)

    assert list(refused.value.fields) == ["name"]


def test_a_project_of_another_organisation_looks_like_none():
    world = make_world()
    made = create(world)

    for act in (
        lambda: projects.get_project(STRANGER, made.id, world=world),
        lambda: projects.update_project(STRANGER, made.id, {"name": "mine"}, world=world),
        lambda: projects.delete_project(an_admin(organisation="org-2"), made.id, world=world),
        lambda: projects.set_variable(STRANGER, made.id, "A", "1", False, world=world),
        lambda: projects.get_project(STRANGER, "x" * 5000, world=world),
        lambda: projects.get_project(STRANGER, "", world=world),
    ):
        with pytest.raises(NotFound):
            act()

    assert projects.list_projects(STRANGER, world=world) == []


def test_a_rename_frees_the_old_name():
    world = make_world()
    made = create(world, "old")

    projects.update_project(ADA, made.id, {"name": "new"}, world=world)

    assert create(world, "old").id != made.id
    with pytest.raises(Invalid):
        create(world, "NEW")


def test_a_rename_may_change_only_the_case():
    world = make_world()
    made = create(world, "mnist")

    changed = projects.update_project(ADA, made.id, {"name": "MNIST"}, world=world)

    assert changed.name == "MNIST"
    with pytest.raises(Invalid):
        create(world, "mnist")


def test_every_field_that_may_change_changes():
    world = make_world()
    environment = create_environment(an_admin(), {"slug": "gpu", "name": "GPU", "cloud": "local"}, world=world)
    made = create(world)

    changed = projects.update_project(
        BOB,
        made.id,
        {
            "description": "digits",
            "yaml_path": "ml/valohai.yaml",
            "repository": {"url": "https://git.example/mnist.git"},
            "default_environment": "gpu",
            "default_store": "default",
            "tags": ["a", "b", "a"],
        },
        world=world,
    )

    assert changed == projects.get_project(ADA, made.id, world=world)
    assert (changed.description, changed.yaml_path, changed.tags) == ("digits", "ml/valohai.yaml", ("a", "b"))
    assert changed.repository == Repository("https://git.example/mnist.git", "main")
    assert (changed.default_environment, changed.default_store) == (environment.id, "default")
    assert changed.mtime > made.mtime


def test_a_default_is_cleared_by_none():
    world = make_world()
    made = create(world)
    projects.update_project(ADA, made.id, {"repository": {"url": "https://git.example/a"}}, world=world)

    changed = projects.update_project(
        ADA, made.id, {"repository": None, "default_environment": None, "default_store": None}, world=world
    )

    assert changed.repository is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("yaml_path", "../valohai.yaml"),
        ("yaml_path", "/etc/passwd"),
        ("yaml_path", "a" * 256),
        ("description", "x" * (64 * 1024 + 1)),
        ("description", "\ud800"),
        ("repository", {"url": "https://ada:token@git.example/a"}),
        ("repository", {"url": "https://git.example/a", "ref": "--upload-pack=evil"}),
        ("repository", {"url": "https://[git.example/a"}),
        ("repository", {"url": 7}),
        ("default_environment", "nowhere"),
        ("default_store", "nowhere"),
        ("tags", ["x" * 101]),
        ("tags", ["x"] * 51),
        ("tags", "text"),
        ("owner_id", "user-eve"),
        ("organisation_id", "org-2"),
    ],
)
def test_a_change_that_is_not_right_is_refused_under_its_name(field: str, value: Any):
    world = make_world()
    made = create(world)

    with pytest.raises(Invalid) as refused:
        projects.update_project(ADA, made.id, {field: value}, world=world)

    assert list(refused.value.fields) == [field]
    assert projects.get_project(ADA, made.id, world=world) == made


def test_a_change_of_nothing_leaves_no_trace():
    world = make_world()
    made = create(world)
    before = len(list(walk_together(world.metadata, keys.audit_partitions(ORGANISATION))))

    projects.update_project(ADA, made.id, {"name": made.name, "tags": []}, world=world)

    assert len(list(walk_together(world.metadata, keys.audit_partitions(ORGANISATION)))) == before


def test_a_deleted_project_is_gone_and_its_name_is_free():
    secrets = MemorySecrets()
    world = make_world(secrets=secrets)
    made = create(world)
    projects.set_variable(ADA, made.id, "KEY", "s3cret", True, world=world)

    projects.delete_project(ADA, made.id, world=world)

    with pytest.raises(NotFound):
        projects.get_project(ADA, made.id, world=world)
    assert projects.list_projects(ADA, world=world) == []
    assert secrets.values == {}
    assert create(world).id != made.id


def test_only_its_owner_or_an_admin_deletes_a_project():
    world = make_world()
    made = create(world)

    with pytest.raises(Forbidden, match="Only ada or an administrator"):
        projects.delete_project(BOB, made.id, world=world)
    projects.delete_project(an_admin(), made.id, world=world)

    assert projects.list_projects(ADA, world=world) == []


def test_a_project_with_an_unfinished_execution_is_not_deleted():
    world = make_world()
    made = create(world)
    world.metadata.transact([new(keys.live_in_project(made.id, 1), {"execution_id": "e1"})])

    with pytest.raises(Invalid, match="stop them first"):
        projects.delete_project(ADA, made.id, world=world)

    assert projects.get_project(ADA, made.id, world=world) == made


def test_a_secret_goes_to_the_secrets_and_nowhere_else():
    secrets, metadata = MemorySecrets(), MemoryMetadata()
    world = make_world(secrets=secrets, metadata=metadata)
    made = create(world)

    changed = projects.set_variable(ADA, made.id, "KEY", "s3cret", True, world=world)

    assert changed.environment_variables == {"KEY": Variable(None, True, f"project/{made.id}/KEY")}
    assert secrets.values == {f"project/{made.id}/KEY": "s3cret"}
    assert "s3cret" not in repr(
        [*walk_together(metadata, keys.audit_partitions(ORGANISATION)), metadata.get(keys.project(made.id))]
    )


def test_a_secret_that_becomes_plain_is_forgotten_as_a_secret():
    secrets = MemorySecrets()
    world = make_world(secrets=secrets)
    made = create(world)
    projects.set_variable(ADA, made.id, "KEY", "s3cret", True, world=world)

    changed = projects.set_variable(ADA, made.id, "KEY", "plain", False, world=world)

    assert changed.environment_variables == {"KEY": Variable("plain")}
    assert secrets.values == {}


def test_a_variable_is_deleted_with_its_secret_and_deleting_again_is_no_error():
    secrets = MemorySecrets()
    world = make_world(secrets=secrets)
    made = create(world)
    projects.set_variable(ADA, made.id, "KEY", "s3cret", True, world=world)

    projects.delete_variable(ADA, made.id, "KEY", world=world)
    again = projects.delete_variable(ADA, made.id, "KEY", world=world)

    assert again.environment_variables == {}
    assert secrets.values == {}


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("1A", "x", "name"),
        ("A B", "x", "name"),
        ("", "x", "name"),
        ("A\n", "x", "name"),
        ("A", "x" * (32 * 1024 + 1), "value"),
        ("A", "é" * (32 * 1024 - 1), "value"),
        ("A", "nul\0", "value"),
    ],
)
def test_an_odd_variable_is_refused(name: str, value: str, field: str):
    world = make_world()
    made = create(world)

    with pytest.raises(Invalid) as refused:
        projects.set_variable(ADA, made.id, name, value, False, world=world)

    assert list(refused.value.fields) == [field]


def test_more_variables_than_a_record_can_hold_are_refused():
    world = make_world()
    made = create(world)
    for i in range(7):
        projects.set_variable(ADA, made.id, f"BIG{i}", "x" * 32 * 1024, False, world=world)

    with pytest.raises(Invalid, match="delete some"):
        projects.set_variable(ADA, made.id, "LAST", "x" * 32 * 1024, False, world=world)


def test_a_new_project_has_no_executions_to_count():
    world = make_world()
    made = create(world)

    summary = projects.execution_summary(made.id, world=world)

    assert summary == {
        "count": 0,
        "created_count": 0,
        "queued_count": 0,
        "started_count": 0,
        "stopping_count": 0,
        "stopped_count": 0,
        "complete_count": 0,
        "error_count": 0,
        "crashed_count": 0,
    }


def test_what_ended_long_ago_is_counted_once_and_not_read_again():
    world = make_world()
    made = create(world)
    for number in range(1, 301):
        add_execution(world, made, number, Status.ERROR if number == 7 else Status.COMPLETE)
    add_execution(world, made, 301, Status.STARTED)
    add_execution(world, made, 302, Status.STOPPED)

    first = projects.execution_summary(made.id, world=world)
    saved = world.metadata.get(keys.execution_summary(made.id))
    second = projects.execution_summary(made.id, world=world)

    assert saved
    assert saved.value == {"through": 300, "counts": {"complete": 299, "error": 1}}
    assert first == second
    assert (first["count"], first["complete_count"], first["error_count"]) == (302, 299, 1)
    assert (first["started_count"], first["stopped_count"]) == (1, 1)


def test_whatever_happens_to_a_creation_there_is_one_whole_project():
    def again(world: World) -> None:
        if not projects.list_projects(ADA, world=world):
            create(world)

    def check(world: World) -> None:
        (only,) = projects.list_projects(ADA, world=world)
        pointer = world.metadata.get(keys.project_name(ORGANISATION, "mnist"))
        assert pointer
        assert pointer.value["project_id"] == only.id
        assert [r.value["action"] for r in walk_together(world.metadata, keys.audit_partitions(ORGANISATION))] == [
            "project.create"
        ]

    scenario = Scenario(world=_faulty_world, act=create, redeliver=again)

    found = enumerate_faults(scenario, check, pairs=True)

    assert found.effects == 1


def test_whatever_happens_to_a_secret_a_repeat_keeps_row_and_value_together():
    def prepare(plan: FaultPlan) -> World:
        world = _faulty_world(plan)
        create(world)
        return world

    def act(world: World) -> None:
        (only,) = projects.list_projects(ADA, world=world)
        projects.set_variable(ADA, only.id, "KEY", "s3cret", True, world=world)

    def check(world: World) -> None:
        (only,) = projects.list_projects(ADA, world=world)
        variable = only.environment_variables["KEY"]
        assert variable.value is None
        assert world.secrets.get(variable.secret_name) == "s3cret"

    found = enumerate_faults(Scenario(world=prepare, act=act), check, pairs=True)

    assert found.effects == 1


def _faulty_world(plan: FaultPlan) -> World:
    return make_world(metadata=FaultMetadata(MemoryMetadata(), plan))
