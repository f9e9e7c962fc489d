"""One server, started and stopped as a person or a service manager would."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.catalogue import adapter
from lamplighter import keys
from lamplighter.domain.machines import Machine, MachineState
from lamplighter.ports import Metadata
from lamplighter.records import new, walk
from tests.doubles import TRAIN_YAML
from tests.functions.conftest import BOUNDARY, package
from tests.functions.server import Server, command

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up") / "state"


@pytest.fixture(scope="module")
def server(state: Path) -> Iterator[Server]:
    with Server(state) as running:
        yield running


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    assert server.password
    return server.log_in(server.password)


def test_the_first_lines_say_where_it_is_how_to_log_in_and_where_the_data_lies(server: Server, state: Path) -> None:
    said = "".join(server.lines)

    assert f"vh login --host {server.url} --username admin" in said
    assert "plain processes, without containers" in said
    assert str(state) in said
    assert server.call("GET", "/api/health/") == (200, {"status": "ok"})


def test_the_state_is_nobody_elses_business(server: Server, state: Path) -> None:
    secrets = list((state / "secrets").iterdir())

    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert secrets
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_a_second_server_on_the_same_state_is_told_who_has_it(server: Server, state: Path) -> None:
    second = command("up", "--state", str(state), "--port", "0")

    assert second.returncode == 1
    assert f"process {server.pid} at {server.url}" in second.stderr


def test_a_busy_port_is_told_with_a_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = command("up", "--state", str(tmp_path / "s"), "--port", str(port))

    assert refused.returncode == 1
    assert f"Port {port}" in refused.stderr
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("host", ["300.1.1.1", "192.0.2.1", "a..b"])
def test_an_address_that_is_none_of_this_machine_is_not_blamed_on_the_port(tmp_path: Path, host: str) -> None:
    refused = command("up", "--state", str(tmp_path / "s"), "--host", host, "--port", "0")
    looked = command("doctor", "--state", str(tmp_path / "s"), "--host", host, "--port", "0")

    assert refused.returncode == 1
    assert f"The address {host} cannot be used" in refused.stderr
    assert f"The address {host} cannot be used" in looked.stdout
    assert "--host" in refused.stderr


def test_a_start_elsewhere_tells_of_the_runs_that_report_to_the_old_address(tmp_path: Path) -> None:
    state = tmp_path / "s"
    with Server(state) as first:
        pass
    with contextlib.closing(adapter("metadata", "sqlite")(state / "metadata.sqlite3")) as metadata:
        _with_busy_machine(metadata)

    with Server(state) as second:
        said = "".join(second.lines)

    port = first.url.rpartition(":")[2]
    assert f"1 run still reports to {first.url}: start with --port {port} to keep it" in said
    assert "still reports" not in "".join(first.lines)


def test_the_first_environment_knows_what_this_server_has_unless_the_operator_knows_better(tmp_path: Path) -> None:
    at = ("--state", str(tmp_path / "s"))
    offers = []
    for own in (("cpus=0.5", "memory_mib=null"), ()):
        with Server(tmp_path / "s", LAMPLIGHTER_ADMIN_PASSWORD="chosen by the operator") as running:
            token = running.log_in("chosen by the operator")
            offers += running.call("GET", "/api/v0/environments/", token=token)[1]["results"]
            if own:
                assert command("environment", "set", "local", *own, *at).returncode == 0

    assert [offer["cpus"] for offer in offers] == [os.cpu_count(), 0.5]
    assert offers[0]["memory_mib"] == offers[1]["memory_mib"] > 1


def test_every_wrong_setting_is_told_at_once(tmp_path: Path) -> None:
    refused = command("up", "--port", "many", "--runtime", "magic", "--url", "ftp://x/y", LAMPLIGHTER_MAX_MACHINES="-1")

    assert refused.returncode == 1
    assert all(name in refused.stderr for name in ("port", "runtime", "url", "max_machines"))


def test_the_other_commands_work_beside_the_running_server(server: Server, state: Path) -> None:
    at = ("--state", str(state))

    added = command("user", "add", "ada", "--password-stdin", *at, text="a password of ada\n")
    made = command("token", "create", "ada", "--name", "ci", *at)
    changed = command("environment", "set", "local", "max_machines=7", "options.stop_grace=3", *at)
    listed = command("user", "list", *at)

    assert (added.returncode, made.returncode, changed.returncode) == (0, 0, 0), made.stderr + changed.stderr
    text = made.stdout.strip()
    assert server.call("GET", "/api/v0/users/me/", token=text)[1]["username"] == "ada"
    environments = server.call("GET", "/api/v0/environments/", token=text)[1]["results"]
    assert environments[0]["max_machines"] == 7
    assert "ada" in listed.stdout

    revoked = command("token", "revoke", text[:12], *at)

    assert revoked.returncode == 0
    assert server.call("GET", "/api/v0/users/me/", token=text)[0] == 401


def test_where_nobody_can_be_asked_for_a_password_the_way_out_is_told(server: Server, state: Path) -> None:
    asked = command("user", "add", "bob", "--state", str(state))

    assert asked.returncode == 1
    assert "give --password-stdin" in asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.mark.parametrize("days", ["99999999999", "0", "-1"])
def test_a_token_cannot_outlive_the_calendar(server: Server, state: Path, days: str) -> None:
    refused = command("token", "create", "admin", "--name", "ci", f"--days={days}", "--state", str(state))

    assert refused.returncode == 1
    assert "from 1 to 36500 days" in refused.stderr


def test_a_store_is_added_unproven_only_on_demand_and_the_doctor_tells(tmp_path: Path) -> None:
    at = ("--state", str(tmp_path / "s"))
    with Server(tmp_path / "s"):
        add = ("store", "add", "lake", "--bucket", "b", "--endpoint-url", "http://127.0.0.1:1", "--default", *at)
        keys = ("--access-key-id", "id")
        refused = command(*add, *keys, LAMPLIGHTER_STORE_SECRET_KEY="hush")
        none = command("store", "list", *at)

        added = command(*add, *keys, "--no-check", LAMPLIGHTER_STORE_SECRET_KEY="hush")
        back = command("store", "default", "local", *at)

    looked = command("doctor", "--port", "0", *at)
    assert (refused.returncode, added.returncode, back.returncode) == (1, 0, 0), added.stderr + back.stderr
    assert "was not added" in refused.stderr
    assert "lake" not in none.stdout
    assert looked.returncode == 1
    assert "missing  store lake" in looked.stdout


def test_a_disabled_user_is_out_at_once(server: Server, state: Path) -> None:
    at = ("--state", str(state))
    command("user", "add", "eve", "--password-stdin", *at, text="a password of eve\n")
    text = command("token", "create", "eve", "--name", "t", *at).stdout.strip()
    command("user", "disable", "eve", *at)

    assert server.call("GET", "/api/v0/users/me/", token=text)[0] == 401


def test_a_state_that_is_none_is_not_made_by_accident(tmp_path: Path) -> None:
    refused = command("user", "list", "--state", str(tmp_path / "typo"))

    assert refused.returncode == 1
    assert "lamplighter up" in refused.stderr
    assert not (tmp_path / "typo").exists()


def test_a_large_archive_passes_without_being_held_in_memory(server: Server, token: str) -> None:
    project = server.call("POST", "/api/v0/projects/", {"name": "large"}, token=token)[1]["id"]
    body = package(_archive(64 * MIB))
    path = f"/api/v0/projects/{project}/import-package/"
    headers = {"Authorization": f"Token {token}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    before = server.peak_memory()

    status, answer = server.send(path, io.BytesIO(body), len(body), headers)

    assert status == 201, answer
    assert server.peak_memory() - before < 32 * MIB


def test_an_upload_by_a_stranger_is_answered_and_not_only_cut_off(server: Server) -> None:
    body = b"x" * (3 * MIB)

    status, answer = server.send("/api/v0/projects/p/import-package/", io.BytesIO(body), len(body), {})

    assert (status, answer["code"]) == (401, "not_authenticated")


def test_it_ends_in_order_and_knows_everything_when_it_is_back(tmp_path: Path) -> None:
    with Server(tmp_path / "s", LAMPLIGHTER_ADMIN_PASSWORD="chosen by the operator") as first:
        token = first.log_in("chosen by the operator")
        first.call("POST", "/api/v0/projects/", {"name": "mnist"}, token=token)
        printed = first.password
        code = first.stop()

    with Server(tmp_path / "s") as second:
        projects = second.call("GET", "/api/v0/projects/", token=token)[1]["results"]
        again = second.password

    assert (printed, code, again) == (None, 0, None)
    assert "Lamplighter has stopped." in first.lines[-1]
    assert [project["name"] for project in projects] == ["mnist"]


def test_help_teaches_with_examples() -> None:
    for arguments in (["--help"], ["up", "--help"]):
        shown = command(*arguments)

        assert shown.returncode == 0
        assert "examples:" in shown.stdout


def test_the_doctor_finds_what_is_missing(tmp_path: Path) -> None:
    well = command("doctor", "--state", str(tmp_path), "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ill = command("doctor", "--state", str(tmp_path), "--port", str(taken.getsockname()[1]))

    assert well.returncode == 0, well.stdout
    assert ill.returncode == 1
    assert "--port" in ill.stdout


def _with_busy_machine(metadata: Metadata) -> None:
    (row,) = walk(metadata, keys.ENVIRONMENTS)
    environment = str(row.value["environment_id"])
    organisation = str(metadata.get(keys.INSTALLATION).value["organisation_id"])  # type: ignore[union-attr]
    machine = Machine("m-1", organisation, environment, "local", "local", datetime.now(UTC), state=MachineState.BUSY)
    metadata.transact([new(keys.machine("m-1"), machine), new(keys.live_machine(environment, "m-1"), {})])


def _archive(size: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=0) as archive:
        for name, content in (("valohai.yaml", TRAIN_YAML), ("noise", os.urandom(size))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()
