"""The first start makes everything at once; later ones change nothing that nobody asked for."""

from __future__ import annotations

import pytest

from adapters.metadata.memory import MemoryMetadata
from lamplighter import keys
from lamplighter.errors import Forbidden, Invalid, NotFound
from lamplighter.records import walk
from lamplighter.usecases import environments, people
from lamplighter.usecases.initialise import Initialised, initialise
from lamplighter.usecases.installation import InstallationRow, read_installation
from lamplighter.world import World
from tests.doubles import a_member, make_world
from tests.faults import FaultMetadata, FaultPlan, Scenario, enumerate_faults

LOCAL = {"slug": "local", "name": "This server", "cloud": "local", "max_machines": 2}


def start(world: World, password: str | None = "pw") -> Initialised:
    return initialise(admin_password=password, environment=LOCAL, world=world)


def test_the_first_start_makes_an_admin_who_can_log_in_and_one_environment():
    world = make_world()

    made = start(world)

    principal = people.authenticate(people.log_in("admin", "pw", world=world), world=world)
    assert principal.admin
    assert (principal.user_id, principal.organisation_id) == (made.admin_user_id, made.organisation_id)
    assert [e.slug for e in environments.list_environments(principal, world=world)] == ["local"]
    assert read_installation(world.metadata) == InstallationRow(
        "installation-1", 1, made.organisation_id, made.admin_user_id
    )
    assert made.created
    assert made.generated_password is None


def test_without_a_password_one_is_made_up_and_told_once():
    world = make_world()

    first = start(world, None)
    second = start(world, None)

    assert first.generated_password
    assert people.log_in("admin", first.generated_password, world=world)
    assert second == Initialised(first.organisation_id, first.admin_user_id, None, False)


def test_a_later_start_with_another_password_sets_it_and_nothing_else():
    world = make_world()
    start(world)

    again = start(world, "new")

    assert not again.created
    assert people.log_in("admin", "new", world=world)
    with pytest.raises(Invalid):
        people.log_in("admin", "pw", world=world)


def test_a_later_start_with_the_same_password_writes_nothing():
    world = make_world()
    made = start(world)
    before = list(walk(world.metadata, keys.user(made.admin_user_id).partition))

    start(world)

    assert list(walk(world.metadata, keys.user(made.admin_user_id).partition)) == before


def test_an_empty_password_is_refused_before_anything_is_made():
    world = make_world()

    with pytest.raises(Invalid, match="password"):
        start(world, "")

    assert read_installation(world.metadata) is None


def test_an_environment_on_an_unknown_cloud_is_refused_before_anything_is_made():
    world = make_world()

    with pytest.raises(Invalid, match="there are: local"):
        initialise(admin_password="pw", environment=LOCAL | {"cloud": "moon"}, world=world)

    assert read_installation(world.metadata) is None


def test_the_command_line_of_the_server_manages_the_only_organisation():
    world = make_world()
    made = start(world)

    user = people.create_user(None, "ada", "long enough", world=world)

    assert user.organisation_id == made.organisation_id
    assert {u.username for u in people.list_users(None, world=world)} == {"admin", "ada"}


def test_before_the_first_start_the_command_line_is_told_what_is_missing():
    with pytest.raises(NotFound, match="initialise"):
        people.list_users(None, world=make_world())


def test_a_member_does_not_change_environments():
    world = make_world()
    start(world)

    with pytest.raises(Forbidden):
        environments.update_environment(a_member(), "local", {"max_machines": 100}, world=world)


def test_whatever_happens_to_the_first_start_a_repeat_completes_it():
    def check(world: World) -> None:
        row = read_installation(world.metadata)
        assert row
        assert people.log_in("admin", "pw", world=world)
        assert [u.id for u in people.list_users(None, world=world)] == [row.admin_user_id]
        assert [e.slug for e in environments.list_environments(None, world=world)] == ["local"]
        assert len(list(walk(world.metadata, keys.ENVIRONMENTS))) == 1

    scenario = Scenario(world=lambda plan: make_world(metadata=_faulty(plan)), act=start)

    found = enumerate_faults(scenario, check)

    assert found.effects == 1


def _faulty(plan: FaultPlan) -> FaultMetadata:
    return FaultMetadata(MemoryMetadata(), plan)
