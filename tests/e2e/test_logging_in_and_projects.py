"""The first minutes with `vh`: logging in, projects, their variables, kinds of machine."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from tests.e2e.server import PASSWORD, RunningServer
from tests.e2e.vh import VhHome


@pytest.fixture
def stranger(process_server: RunningServer, tmp_path: Path) -> VhHome:
    """Somebody who has not logged in yet."""
    return VhHome(process_server, tmp_path / "home")


def config_of(home: VhHome) -> dict[str, object]:
    found: dict[str, object] = json.loads((home.config / "config.json").read_text())
    return found


def test_name_and_password_log_in(stranger: VhHome) -> None:
    said = stranger("login", "--host", stranger.server.url, "-u", "admin", "-p", PASSWORD).out

    assert "Hey admin!" in said
    known = config_of(stranger)
    assert known["token"]
    assert known["user"]["username"] == "admin"


def test_a_wrong_password_is_refused_in_the_servers_own_words(stranger: VhHome) -> None:
    said = stranger("login", "--host", stranger.server.url, "-u", "admin", "-p", "guessed", fails=True).out

    assert "password" in said.lower()
    assert "<html" not in said.lower()
    assert not (stranger.config / "config.json").exists()


def test_a_token_logs_in(stranger: VhHome) -> None:
    said = stranger("login", "--host", stranger.server.url, "--token", stranger.server.token).out

    assert "Hey admin!" in said
    assert config_of(stranger)["token"] == stranger.server.token


def test_a_wrong_token_is_refused(stranger: VhHome) -> None:
    said = stranger("login", "--host", stranger.server.url, "--token", "mlo_nonsense", fails=True).out

    assert "token" in said.lower()
    assert not (stranger.config / "config.json").exists()


def test_a_project_is_made_linked_and_listed(stranger: VhHome) -> None:
    stranger("login", "--host", stranger.server.url, "--token", stranger.server.token)
    name = f"mnist-{uuid.uuid4().hex[:8]}"

    said = stranger("project", "create", "-n", name, "-d", "Handwritten digits", "--link").out

    assert f"{name} created" in said
    assert config_of(stranger)["links"][str(stranger.folder)]["name"] == name
    listed = stranger("project", "list").out
    assert name in listed
    assert "Handwritten digits" in listed


def test_a_new_project_has_an_address_and_no_executions(vh: VhHome) -> None:
    project = vh.server.get(f"/api/v0/projects/{vh.project}/")

    said = vh("project", "status").out

    assert "No executions yet." in said
    assert project["urls"]["display"] in said


def test_a_project_opens_in_a_browser_at_its_address(vh: VhHome, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)

    vh("project", "open", env={"BROWSER": f"{browser} %s"})

    project = vh.server.get(f"/api/v0/projects/{vh.project}/")
    assert opened.read_text().strip() == project["urls"]["display"]


def test_kinds_of_machine_are_listed_with_price_and_queue(vh: VhHome) -> None:
    said = vh("environments", "--queue", "--price", "--gpu").out

    assert "local" in said
    assert "unlimited" in said
    assert "Per-Hour" in said


def test_a_project_that_does_not_exist_is_said_kindly(vh: VhHome) -> None:
    nowhere = {"VALOHAI_PROJECT": str(uuid.uuid4())}

    said = vh("exec", "list", env=nowhere, fails=True).out

    assert "No project was found" in said
    assert "Traceback" not in said


def test_an_execution_that_does_not_exist_is_said_kindly(vh: VhHome) -> None:
    said = vh("exec", "info", "999", fails=True).out

    assert "Execution #999 does not exist" in said


def test_a_secret_variable_is_shown_as_stars_and_can_be_taken_away(vh: VhHome) -> None:
    vh("project", "environment-variables", "create", "KEY=hush-hush-12345", "--secret")
    vh("project", "environment-variables", "create", "MODE=dev")

    listed = vh("project", "environment-variables", "list").out

    assert "****" in listed
    assert "dev" in listed
    assert "hush-hush-12345" not in json.dumps(vh.server.get(f"/api/v0/projects/{vh.project}/"))
    vh("project", "environment-variables", "delete", "KEY")
    assert "KEY" not in vh("project", "environment-variables", "list").out


def test_a_run_gets_a_secret_and_the_log_does_not_show_it(anywhere: VhHome) -> None:
    import hashlib

    vh = anywhere
    vh("project", "environment-variables", "create", "KEY=hush-hush-12345", "--secret")
    vh("project", "environment-variables", "create", "MODE=dev")

    vh.run("variables")

    ended = vh.ended()
    assert vh.output(ended, "digest.txt").decode() == hashlib.sha256(b"hush-hush-12345").hexdigest()
    said = vh("exec", "logs", "--all", "latest").out
    assert "hush-hush-12345" not in said
    assert "and the mode is dev" in said
    assert "hush-hush-12345" not in json.dumps(vh.execution())


def test_a_notebook_run_is_made_on_the_default_kind_of_machine(vh: VhHome) -> None:
    said = vh("notebook", "run", "-i", "jupyter/minimal-notebook").out

    made = vh.execution()
    assert f"Notebook execution {made['counter']} queued" in said
    assert made["urls"]["display"] in said
    assert made["environment"]["slug"] == "local"
    vh("exec", "stop", "latest")
