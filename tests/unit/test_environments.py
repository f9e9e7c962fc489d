"""Which environment a request means, and what may be said about one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from lamplighter import keys
from lamplighter.domain.capacity import Pool
from lamplighter.domain.environments import Environment
from lamplighter.errors import Forbidden, Invalid, NotFound
from lamplighter.records import find, new, walk_together
from lamplighter.usecases import environments, projects
from lamplighter.usecases.environments import create_environment, resolve_environment, update_environment
from lamplighter.world import World
from tests.doubles import a_member, an_admin, make_world


def offer(world: World, slug: str, name: str, **more: Any) -> Environment:
    return create_environment(an_admin(), {"slug": slug, "name": name, "cloud": "local", **more}, world=world)


def meant(world: World, wanted: str | None, step: str | None = None) -> str:
    return resolve_environment(a_member(), wanted, project=None, step_environment=step, world=world).slug


def three() -> World:
    world = make_world()
    offer(world, "small-cpu", "Small CPU")
    offer(world, "big-cpu", "Big CPU")
    offer(world, "gpu", "One A100")
    return world


def test_a_wish_is_an_id_a_slug_a_name_or_a_part_that_fits_no_other():
    world = three()
    small = environments.get_environment(a_member(), "small-cpu", world=world)

    found = [meant(world, wish) for wish in (small.id, "small-cpu", "Small CPU", "SMALL", "a100")]

    assert found == ["small-cpu", "small-cpu", "small-cpu", "small-cpu", "gpu"]


def test_a_whole_slug_wins_over_a_part_of_another():
    world = three()
    offer(world, "gpu-2", "gpu with more")

    assert meant(world, "gpu") == "gpu"


def test_a_part_that_fits_several_is_refused_with_their_names():
    with pytest.raises(Invalid, match=r"could mean several environments: big-cpu, small-cpu"):
        meant(three(), "cpu")


def test_an_unknown_wish_is_refused_in_the_way_clients_act_on():
    with pytest.raises(Invalid) as refused:
        meant(three(), "gpu-x")

    message = 'No environment matches "gpu-x". There are: big-cpu, gpu, small-cpu.'
    assert refused.value.fields == {"environment": ((message, "does_not_exist"),)}


@pytest.mark.parametrize("wanted", [None, "", "PROJECT_DEFAULT"])
def test_without_a_wish_the_step_decides(wanted: str | None):
    assert meant(three(), wanted, step="gpu") == "gpu"


def test_without_a_wish_and_a_step_the_project_decides():
    world = three()
    project = projects.create_project(a_member(), "p", world=world)
    project = projects.update_project(a_member(), project.id, {"default_environment": "gpu"}, world=world)

    found = resolve_environment(a_member(), None, project=project, step_environment=None, world=world)

    assert found.slug == "gpu"


def test_without_any_wish_it_is_the_first_enabled_one():
    world = three()
    update_environment(an_admin(), "big-cpu", {"enabled": False}, world=world)

    assert meant(world, None) == "gpu"


def test_a_disabled_environment_is_refused_with_the_choices():
    world = three()
    update_environment(an_admin(), "gpu", {"enabled": False}, world=world)

    with pytest.raises(Invalid, match=r"One A100 is disabled. There are: big-cpu, small-cpu"):
        meant(world, "gpu")


def test_where_nothing_is_on_offer_the_refusal_says_whom_to_ask():
    with pytest.raises(Invalid, match="ask an administrator"):
        meant(make_world(), None)


def test_another_organisation_sees_none_of_them():
    world = three()
    stranger = a_member(organisation="org-2")

    assert environments.list_environments(stranger, world=world) == []
    with pytest.raises(NotFound):
        environments.get_environment(stranger, "gpu", world=world)


def test_a_slug_is_given_once():
    world = three()

    with pytest.raises(Invalid) as refused:
        offer(world, "gpu", "Another")

    assert refused.value.fields["slug"][0][1] == "unique"


def test_a_change_keeps_the_rest_and_has_the_queue_looked_at():
    nudges: list[str] = []
    world = make_world(nudge=lambda: nudges.append("nudge"))
    made = offer(world, "gpu", "One A100", per_hour_price_usd="1.25")

    changed = update_environment(an_admin(), "gpu", {"max_machines": 5, "per_hour_price_usd": 0.1}, world=world)

    intents = [row.value["kind"] for row in walk_together(world.metadata, keys.OUTBOX)]
    assert (changed.id, changed.name, changed.max_machines) == (made.id, "One A100", 5)
    assert changed.per_hour_price_usd == Decimal("0.1")
    assert intents == ["ensure_capacity"]
    assert nudges == ["nudge"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_machines", -1),
        ("max_machines", "many"),
        ("lease_seconds", 1),
        ("per_hour_price_usd", "NaN"),
        ("per_hour_price_usd", "sNaN"),
        ("per_hour_price_usd", "cheap"),
        ("cpus", float("nan")),
        ("slug", "other"),
        ("cloud", "other"),
        ("colour", "red"),
        ("name", ""),
        ("options", {"deep": [[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]}),
        ("options", []),
    ],
)
def test_a_change_that_is_not_right_is_refused_under_its_name(field: str, value: Any):
    world = three()

    with pytest.raises(Invalid) as refused:
        update_environment(an_admin(), "gpu", {field: value}, world=world)

    assert list(refused.value.fields) == [field]


@pytest.mark.parametrize("slug", ["", "Upper", "a b", "-a", "x" * 64, None, 7])
def test_an_odd_slug_is_refused(slug: Any):
    with pytest.raises(Invalid) as refused:
        offer(make_world(), slug, "name")

    assert list(refused.value.fields) == ["slug"]


def test_members_create_none():
    with pytest.raises(Forbidden):
        create_environment(a_member(), {"slug": "a", "name": "a", "cloud": "local"}, world=make_world())


def test_a_new_environment_has_no_machines_yet():
    world = make_world()

    made = offer(world, "gpu", "One A100")

    capacity = world.metadata.get(keys.capacity(made.id))
    assert capacity
    assert capacity.value == {"count": 0}


def test_unfinished_executions_are_counted_per_environment():
    world = make_world()
    world.metadata.transact([new(keys.live_in_environment("env-1", f"e{i}"), {}) for i in range(3)])

    counts = environments.unfinished_counts(["env-1", "env-2"], world=world)

    assert counts == {"env-1": 3, "env-2": 0}


def test_an_environment_that_does_not_exist_is_named_with_those_there_are():
    with pytest.raises(NotFound, match=r'"tpu"; there are: big-cpu, gpu, small-cpu'):
        update_environment(an_admin(), "tpu", {"max_machines": 1}, world=three())


def test_a_change_ends_the_pause_after_launches_that_failed():
    world = three()
    gpu = environments.get_environment(an_admin(), "gpu", world=world)
    before = find(world.metadata, Pool, keys.capacity(gpu.id))
    assert before
    failing = Pool(count=1, failures=3, not_before=world.now(), last_failure="no such image")
    world.metadata.transact([before.becomes(failing)])

    update_environment(an_admin(), "gpu", {"options": {"runtime": "process"}}, world=world)

    after = find(world.metadata, Pool, keys.capacity(gpu.id))
    assert after
    assert after.value == Pool(count=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"runtime": "podman"}, "runtime must be one of auto, docker, process."),
        ({"runtime": ["docker"]}, "runtime must be one of auto, docker, process."),
        ({"input_networks": "lan"}, "input_networks must be one of public, private, any."),
    ],
)
def test_an_option_that_would_fail_every_launch_of_this_server_is_refused(options: dict[str, Any], told: str):
    world = three()

    for attempt in (
        lambda: update_environment(an_admin(), "gpu", {"options": options}, world=world),
        lambda: offer(world, "other", "Other", options=options),
    ):
        with pytest.raises(Invalid) as refused:
            attempt()

        assert refused.value.fields == {"options": (told,)}
