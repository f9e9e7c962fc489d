"""Credentials for private registries reach the agent that pulls, and nobody else."""

from __future__ import annotations

import json

import pytest

from lamplighter import keys
from lamplighter.domain.registries import registry_of
from lamplighter.errors import Invalid, NotFound
from lamplighter.records import walk
from lamplighter.usecases.registries import list_registries, login_for, remove_registry, set_registry
from tests.doubles import ORGANISATION, make_world


@pytest.mark.parametrize(
    ("image", "address"),
    [
        ("python:3.12", "docker.io"),
        ("library/python", "docker.io"),
        ("index.docker.io/library/python", "docker.io"),
        ("ghcr.io/team/train:1", "ghcr.io"),
        ("localhost/train", "localhost"),
        ("127.0.0.1:15000/team/train@sha256:00", "127.0.0.1:15000"),
    ],
)
def test_an_image_names_its_registry_as_the_engine_reads_it(image: str, address: str):
    assert registry_of(image) == address


def test_credentials_are_given_for_images_of_their_registry_only():
    world = make_world()
    set_registry(ORGANISATION, "GHCR.io", "ada", "first", world=world)
    set_registry(ORGANISATION, "ghcr.io", "ada", "second", world=world)

    login = login_for(ORGANISATION, "ghcr.io/team/train", world=world)

    assert login
    assert (login.registry, login.username, login.password) == ("ghcr.io", "ada", "second")
    assert login_for(ORGANISATION, "python:3.12", world=world) is None
    assert login_for("another organisation", "ghcr.io/team/train", world=world) is None


def test_a_password_is_nowhere_in_the_metadata():
    world = make_world()

    set_registry(ORGANISATION, "ghcr.io", "ada", "canary-password", world=world)

    partitions = (f"organisation#{ORGANISATION}#registries", *keys.audit_partitions(ORGANISATION))
    rows = [json.dumps(dict(row.value)) for p in partitions for row in walk(world.metadata, p)]
    assert rows
    assert not any("canary-password" in row for row in rows)


def test_removed_credentials_are_forgotten():
    world = make_world()
    set_registry(ORGANISATION, "ghcr.io", "ada", "secret", world=world)

    remove_registry(ORGANISATION, "ghcr.io", world=world)

    assert list_registries(ORGANISATION, world=world) == []
    assert world.secrets.values == {}
    with pytest.raises(NotFound):
        remove_registry(ORGANISATION, "ghcr.io", world=world)


@pytest.mark.parametrize("address", ["", "https://ghcr.io", "a b", "host:port", "../x", "host/path"])
def test_what_is_no_address_is_refused(address: str):
    with pytest.raises(Invalid):
        set_registry(ORGANISATION, address, "ada", "secret", world=make_world())
