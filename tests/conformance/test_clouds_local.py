"""What only real processes show of the local cloud: agents, their supervisors, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.clouds import local, machine_files
from adapters.clouds.local import LocalCloud
from lamplighter.errors import LamplighterError, LaunchRefused, NotYet
from tests.conformance.cloud_places import a_request, pids, put_out, state, until


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
from tests.conformance.cloud_places import SLEEPER, a_request
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
