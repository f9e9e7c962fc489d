"""What every cloud promises: a token is one machine, gone is gone, and nobody else's machines are touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from adapters.clouds import local, machine_files
from adapters.clouds.ec2 import Ec2Cloud
from adapters.clouds.local import LocalCloud
from adapters.clouds.memory import MemoryCloud
from lamplighter.errors import LamplighterError, LaunchRefused, NoCapacity, NotYet
from lamplighter.ports import Cloud, CloudMachine, LaunchRequest
from tests.ec2_double import Ec2Double

SLEEPER = ("/bin/sh", "-c", "exec sleep 600", "worker")


class ManualClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


def a_request(name: str = "one", **changes: Any) -> LaunchRequest:
    request = LaunchRequest(
        launch_token=f"token-{name}",
        machine_id=f"machine-{name}",
        installation="ours",
        environment="small",
        control_url="http://127.0.0.1:9",
        join_token="join-secret",
        options={"runtime": "process", "input_networks": "any"},
    )
    return replace(request, **changes)


def until(question: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not question():
        assert time.monotonic() < end, "it did not come to pass within a minute"
        time.sleep(0.02)


def put_out(cloud: Cloud, machine_id: str) -> None:
    def gone() -> bool:
        try:
            cloud.terminate(machine_id)
        except NotYet:
            return False
        return True

    until(gone)


def seen(cloud: Cloud, machine_id: str, installation: str = "ours") -> CloudMachine | None:
    return next((m for m in cloud.describe(installation) if m.machine_id == machine_id), None)


def state(cloud: Cloud, machine_id: str) -> str | None:
    machine = seen(cloud, machine_id)
    return machine.state if machine else None


def pids(directory: Path) -> set[int]:
    """Living processes whose environment names a machine below `directory`."""
    mark = b"LAMPLIGHTER_MACHINE_DIR=" + os.fsencode(directory) + b"/"
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in Path(f"/proc/{name}/environ").read_bytes():
                found.add(int(name))
        except OSError:
            continue
    return found


@pytest.fixture
def make_local(tmp_path: Path) -> Iterator[Callable[..., LocalCloud]]:
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


class Fitted(Ec2Cloud):
    """EC2 for the orders of this suite, whose options are those of a local machine."""

    def launch(self, request: LaunchRequest) -> CloudMachine:
        return super().launch(replace(request, options={"instance_types": ["t3.small"]}))


def on_the_double() -> Cloud:
    double = Ec2Double(ManualClock())
    return Fitted({"cpu": "lt-0123456789abcdef0"}, ["subnet-1"], client=lambda: double)


@pytest.fixture
def moto() -> Iterator[Cloud]:
    """moto keeps no client token, so that only the tag tells a repeated launch: what rests on tokens is proven on the double."""
    with mock_aws():
        client = boto3.client("ec2", "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
        image = client.describe_images()["Images"][0]["ImageId"]
        data = {"ImageId": image, "InstanceType": "t3.small"}
        template = client.create_launch_template(LaunchTemplateName="cpu", LaunchTemplateData=data)["LaunchTemplate"]
        subnet = client.describe_subnets()["Subnets"][0]["SubnetId"]
        yield Fitted({"cpu": template["LaunchTemplateId"]}, [subnet], client=lambda: client)


def the_cloud(name: str, request: pytest.FixtureRequest) -> Cloud:
    if name == "ec2":
        return on_the_double()
    if name == "ec2 on moto":
        return request.getfixturevalue("moto")  # type: ignore[no-any-return]
    return request.getfixturevalue("make_local")() if name == "local" else MemoryCloud(ManualClock())


@pytest.fixture(params=["local", "memory", "ec2", "ec2 on moto"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return the_cloud(request.param, request)


@pytest.fixture(params=["local", "memory", "ec2"])
def cloud_that_keeps_tokens(request: pytest.FixtureRequest) -> Cloud:
    return the_cloud(request.param, request)


def test_a_launched_machine_runs_and_is_described(cloud: Cloud) -> None:
    launched = cloud.launch(a_request())

    assert launched.machine_id == "machine-one"
    assert launched.state in ("starting", "running")
    until(lambda: state(cloud, "machine-one") == "running")
    assert seen(cloud, "machine-one").cloud_id == launched.cloud_id  # type: ignore[union-attr]


def test_the_same_token_is_the_same_machine_however_often_it_is_sent(cloud: Cloud) -> None:
    first = cloud.launch(a_request())

    again = [cloud.launch(a_request()) for _ in range(5)]

    assert {m.cloud_id for m in again} == {first.cloud_id}
    assert len(cloud.describe("ours")) == 1


def test_a_token_of_another_machine_is_refused(cloud_that_keeps_tokens: Cloud) -> None:
    cloud_that_keeps_tokens.launch(a_request())

    with pytest.raises(LaunchRefused):
        cloud_that_keeps_tokens.launch(a_request(machine_id="machine-two"))
    assert len(cloud_that_keeps_tokens.describe("ours")) == 1


def test_a_machine_of_another_token_is_refused(cloud: Cloud) -> None:
    cloud.launch(a_request())

    with pytest.raises(LaunchRefused):
        cloud.launch(a_request(launch_token="another"))
    assert len(cloud.describe("ours")) == 1


def test_a_terminated_machine_is_gone_and_its_token_stays_so(cloud: Cloud) -> None:
    cloud.launch(a_request())

    put_out(cloud, "machine-one")

    assert state(cloud, "machine-one") in ("gone", None)
    assert cloud.launch(a_request()).state == "gone"
    assert state(cloud, "machine-one") in ("gone", None)


def test_ending_what_is_gone_or_never_was_is_no_error(cloud: Cloud) -> None:
    cloud.launch(a_request())
    put_out(cloud, "machine-one")

    cloud.terminate("machine-one")
    cloud.terminate("never-was")
    cloud.terminate("../machines/machine-one")


def test_installations_see_only_their_own_machines(cloud: Cloud) -> None:
    cloud.launch(a_request())
    cloud.launch(a_request("two", installation="theirs"))

    put_out(cloud, "machine-one")

    until(lambda: seen(cloud, "machine-two", "theirs").state == "running")  # type: ignore[union-attr]
    assert [m.machine_id for m in cloud.describe("theirs")] == ["machine-two"]
    assert cloud.describe("nobody") == ()


def test_machines_are_many(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.launch(a_request(name))

    put_out(cloud, "machine-b")

    until(lambda: [state(cloud, f"machine-{n}") for n in "ac"] == ["running", "running"])
    assert state(cloud, "machine-b") in ("gone", None)


# --- What the strict double can be told to do -------------------------------------------------------------------------


def test_memory_hides_new_machines_for_a_while() -> None:
    clock = ManualClock()
    cloud = MemoryCloud(clock)
    cloud.hidden_for, cloud.boot_time = timedelta(seconds=5), timedelta(seconds=8)

    assert cloud.launch(a_request()).state == "starting"

    assert cloud.describe("ours") == ()
    assert len(cloud.inventory()) == 1
    clock.advance(seconds=5)
    assert state(cloud, "machine-one") == "starting"
    clock.advance(seconds=3)
    assert state(cloud, "machine-one") == "running"


def test_memory_refuses_capacity_and_keeps_nothing_of_the_request() -> None:
    cloud = MemoryCloud(ManualClock())
    cloud.refuse_capacity(1)

    with pytest.raises(NoCapacity):
        cloud.launch(a_request())

    assert cloud.inventory() == ()
    assert cloud.launch(a_request()).state == "running"


def test_memory_loses_machines_and_forgets_them_later() -> None:
    clock = ManualClock()
    cloud = MemoryCloud(clock)
    cloud.launch(a_request())

    cloud.lose("machine-one", "spot interruption")

    assert seen(cloud, "machine-one") == CloudMachine("machine-one", "memory:machine-one", "gone", "spot interruption")
    clock.advance(hours=2)
    assert cloud.describe("ours") == ()
    assert cloud.launch(a_request()).state == "gone"


def test_memory_is_deaf_to_terminate_as_often_as_told() -> None:
    cloud = MemoryCloud(ManualClock())
    cloud.launch(a_request())
    cloud.ignore_terminate("machine-one", 2)

    for _ in range(2):
        with pytest.raises(NotYet):
            cloud.terminate("machine-one")

    cloud.terminate("machine-one")
    assert state(cloud, "machine-one") == "gone"


def test_memory_marks_machines_that_never_register() -> None:
    cloud = MemoryCloud(ManualClock())
    cloud.silence(1)

    cloud.launch(a_request("a"))
    cloud.launch(a_request("b"))

    assert [m.silent for m in cloud.inventory()] == [True, False]


# --- What only real processes show ------------------------------------------------------------------------------------


def test_local_passes_the_agent_its_orders_and_none_of_our_secrets(
    make_local: Callable[..., LocalCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_SECRET", "canary")
    script = """
import json, os, sys, time
open("seen.new", "w").write(json.dumps([sys.argv[1:], dict(os.environ), os.read(0, 9).decode()]))
os.rename("seen.new", "seen")
time.sleep(600)
"""
    cloud = make_local(worker_command=(sys.executable, "-c", script))

    cloud.launch(a_request(options={"runtime": "process", "input_networks": "any", "cache_mib": 7, "price_group": "x"}))

    home = tmp_path / "cloud/machines/machine-one"
    until((home / "seen").exists)
    arguments, environment, typed = json.loads((home / "seen").read_text())
    assert arguments == [
        *("run", "--control-url", "http://127.0.0.1:9", "--machine-id", "machine-one", "--dir", str(home)),
        *("--join-token-file", str(home / "join-token"), "--runtime", "process", "--input-networks", "any"),
        *("--cache-mib", "7"),
    ]
    assert "canary" not in json.dumps(environment)
    assert set(environment) <= {
        *("PATH", "HOME", "LANG", "LC_CTYPE", "SSL_CERT_FILE", "PWD", "OLDPWD", "SHLVL", "_"),
        *("LAMPLIGHTER_MACHINE_DIR", "LAMPLIGHTER_MACHINE_ID"),
    }
    assert typed == ""
    assert (home / "join-token").read_text() == "join-secret"
    assert (home / "join-token").stat().st_mode & 0o777 == 0o600


def test_local_starts_a_fallen_agent_again_and_lets_one_go_that_powered_off(
    make_local: Callable[..., LocalCloud], tmp_path: Path
) -> None:
    script = 'echo started >> starts; [ "$(wc -l < starts)" -ge 3 ] && exit 0; exit 7'
    cloud = make_local(worker_command=("/bin/sh", "-c", script, "worker"))

    cloud.launch(a_request())

    until(lambda: state(cloud, "machine-one") == "gone")
    assert cloud.launch(a_request()).state == "gone"
    assert list((tmp_path / "cloud/machines/machine-one").glob("join-token")) == []


def test_local_runs_the_real_agent(make_local: Callable[..., LocalCloud], tmp_path: Path) -> None:
    """It finds no control plane here, but takes its arguments and settles in."""
    make_local()
    cloud = LocalCloud(tmp_path / "cloud", grace_seconds=0.2)

    cloud.launch(a_request())

    home = tmp_path / "cloud/machines/machine-one"
    until((home / "lock").exists)
    put_out(cloud, "machine-one")
    assert "usage:" not in (home / "agent.log").read_text()


def test_local_gives_up_on_an_agent_that_always_falls(
    make_local: Callable[..., LocalCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "RESTARTS", 2)
    cloud = make_local(worker_command=("/bin/sh", "-c", "echo again; exit 1", "worker"))

    cloud.launch(a_request())

    until(lambda: state(cloud, "machine-one") == "gone")
    assert (tmp_path / "cloud/machines/machine-one/agent.log").read_text() == "again\n" * 3


def test_local_machines_outlive_the_server_that_started_them(
    make_local: Callable[..., LocalCloud], tmp_path: Path
) -> None:
    make_local().launch(a_request())
    until((tmp_path / "cloud/machines/machine-one/agent.log").exists)
    until(lambda: len(pids(tmp_path)) == 2)
    before = pids(tmp_path)

    another = make_local()

    assert another.launch(a_request()).state == "running"
    assert pids(tmp_path) == before
    put_out(another, "machine-one")
    assert pids(tmp_path) == set()


def test_local_ends_user_processes_that_turned_away(make_local: Callable[..., LocalCloud], tmp_path: Path) -> None:
    # All deaf, in sessions of their own: one is an orphan with the variables of a run, one has no variables, but a file
    # that names it.
    script = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
outputs = {"VH_OUTPUTS_DIR": os.getcwd() + "/runs/one/outputs"}
a = subprocess.Popen(deaf, start_new_session=True, env=outputs)
b = subprocess.Popen(deaf, start_new_session=True, env={})
os.makedirs("runs/one")
open("runs/one/start-1", "w").write(open(f"/proc/{b.pid}/stat").read())
open("ready.new", "w").write(f"{os.getpid()} {a.pid} {b.pid}")
os.rename("ready.new", "ready")
time.sleep(600)
"""
    cloud = make_local(worker_command=(sys.executable, "-c", script))
    cloud.launch(a_request())
    ready = tmp_path / "cloud/machines/machine-one/ready"
    until(ready.exists)
    processes = [int(pid) for pid in ready.read_text().split()]

    with pytest.raises(NotYet):
        cloud.terminate("machine-one")

    put_out(cloud, "machine-one")
    assert not any(alive(pid) for pid in processes)
    assert not (tmp_path / "cloud/machines/machine-one/runs").exists()
    assert (tmp_path / "cloud/machines/machine-one/agent.log").exists()


def test_local_does_not_take_a_stranger_for_a_run(make_local: Callable[..., LocalCloud], tmp_path: Path) -> None:
    cloud = make_local()
    cloud.launch(a_request())
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        run = tmp_path / "cloud/machines/machine-one/runs/one"
        run.mkdir(parents=True)
        line = Path(f"/proc/{stranger.pid}/stat").read_text().split()
        (run / "start-1").write_text(" ".join([*line[:21], "1", *line[22:]]))

        put_out(cloud, "machine-one")

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_local_starts_one_supervisor_for_many_launches_at_once(
    make_local: Callable[..., LocalCloud], tmp_path: Path
) -> None:
    clouds = [
        make_local(worker_command=("/bin/sh", "-c", "echo $$ >> starts; exec sleep 600", "worker")) for _ in range(8)
    ]
    threads = [threading.Thread(target=cloud.launch, args=(a_request(),)) for cloud in clouds]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    until(lambda: state(clouds[0], "machine-one") == "running")
    starts = tmp_path / "cloud/machines/machine-one/starts"
    until(starts.exists)
    assert len(starts.read_text().splitlines()) == 1


def test_local_launch_may_be_killed_between_any_two_steps(
    make_local: Callable[..., LocalCloud], tmp_path: Path
) -> None:
    """A launcher that dies at its k-th file operation, for all k, is followed by one that finishes its work."""
    died = 0
    for k in range(1, 200):
        directory = tmp_path / f"cloud-{k}"
        code = launch_and_die_at(k, directory)
        cloud = make_local(directory)

        cloud.launch(a_request())

        until(lambda cloud=cloud: state(cloud, "machine-one") == "running")
        supervisor = json.loads((directory / "machines/machine-one/supervisor.json").read_text())["pid"]
        until((directory / "machines/machine-one/agent.log").exists)
        until(lambda d=directory: len(pids(d)) == 2)
        assert [pid for pid in pids(directory) if parent(pid) not in pids(directory)] == [supervisor]
        put_out(cloud, "machine-one")
        if code == 0:
            break
        died += 1
    assert code == 0
    assert died >= 8


def test_local_forgets_old_machines_but_not_their_tokens(
    make_local: Callable[..., LocalCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "REMEMBERED", 1)
    cloud = make_local()
    for name in ("a", "b"):
        cloud.launch(a_request(name))
        put_out(cloud, f"machine-{name}")

    described = cloud.describe("ours")

    assert [m.machine_id for m in described] == ["machine-b"]
    assert cloud.launch(a_request("a")).state == "gone"
    cloud.terminate("machine-a")


def test_local_bounds_the_log(make_local: Callable[..., LocalCloud], tmp_path: Path) -> None:
    cloud = make_local()
    cloud.launch(a_request())
    log = tmp_path / "cloud/machines/machine-one/agent.log"
    until(log.exists)
    with log.open("ab") as file:
        file.truncate(machine_files.MAX_LOG_BYTES + 1)

    cloud.describe("ours")

    assert log.stat().st_size == 0
    assert log.with_suffix(".log.1").stat().st_size == machine_files.MAX_LOG_BYTES + 1


def test_local_refuses_what_it_cannot_start(make_local: Callable[..., LocalCloud], tmp_path: Path) -> None:
    cloud = make_local()

    refused = [{"runtime": "--help"}, {"input_networks": 1}, {"cache_mib": "1"}, {"cache_mib": -1}, {"cache_mib": True}]
    for request in (a_request(machine_id="../escape"), *(a_request(options=options) for options in refused)):
        with pytest.raises(LaunchRefused):
            cloud.launch(request)

    assert list((tmp_path / "cloud/machines").iterdir()) == []


def test_local_removes_the_containers_of_a_machine_and_no_others(
    make_local: Callable[..., LocalCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker` is a script over a directory here: one file per container, its content the label."""
    containers = tmp_path / "containers"
    containers.mkdir()
    (containers / "c1").write_text("lamplighter.machine=machine-one")
    (containers / "c2").write_text("lamplighter.machine=machine-two")
    fake = tmp_path / "bin/docker"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        f"cd {containers}\n"
        'case "$1" in\n'
        '  ps) grep -lx "${4#label=}" -- * 2>/dev/null; exit 0 ;;\n'
        '  rm) shift 2; rm -- "$@" ;;\n'
        "esac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    cloud = make_local()
    cloud.launch(a_request(options={"runtime": "docker"}))

    put_out(cloud, "machine-one")

    assert [c.name for c in containers.iterdir()] == ["c2"]


def test_local_reports_a_docker_that_does_not_answer(
    make_local: Callable[..., LocalCloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin/docker"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    cloud = make_local()
    cloud.launch(a_request(options={"runtime": "docker"}))

    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
        with pytest.raises(LamplighterError, match="daemon"):
            cloud.terminate("machine-one")

    broken.write_text("#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    put_out(cloud, "machine-one")
    assert state(cloud, "machine-one") == "gone"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def launch_and_die_at(k: int, directory: Path) -> int:
    """Exit code of a process that launches and is killed at its k-th effect on files or processes; 0 if it lived."""
    script = """
import os, signal, sys
from pathlib import Path
from adapters.clouds.local import LocalCloud
from tests.conformance.test_clouds import SLEEPER, a_request
cloud = LocalCloud(Path(sys.argv[2]), worker_command=SLEEPER)
left = int(sys.argv[1])
def die(event, arguments):
    global left
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in ("os.mkdir", "os.link", "os.rename", "os.remove", "subprocess.Popen", "fcntl.flock"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
cloud.launch(a_request())
"""
    root = Path(__file__).parents[2]
    child = subprocess.run([sys.executable, "-c", script, str(k), str(directory)], cwd=root, check=False)
    assert child.returncode in (0, -signal.SIGKILL)
    return child.returncode
