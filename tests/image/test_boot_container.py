"""The worker's image is booted, works, is drained and powers itself off: systemd, cloud-init, Docker and agent as on a cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lamplighter.domain.machines import Machine, MachineState
from tests.docker import IMAGE as BUSYBOX
from tests.e2e.api import until
from tests.image.control import ControlPlane, boot_container
from tests.image.instance import Instance, user_data
from tests.image.metadata_service import ADDRESS

SECRET = "the-secret-key-of-the-instance-role"
TOKEN_PATH = "/latest/api/token"

# What a container sees of the metadata service, and a file that it makes.
LOOK = f"""
echo | nc -w 5 {ADDRESS} 80 && echo "metadata: open" || echo "metadata: closed"
echo "looked" > $VH_OUTPUTS_DIR/looked.txt
"""


def credentials() -> dict[str, str]:
    return {"AccessKeyId": "ASIATEST", "SecretAccessKey": SECRET, "Token": "session"}


@pytest.fixture(scope="module")
def idle() -> Iterator[Instance]:
    """A machine whose control plane does not answer, with a metadata service and a network of containers of its own."""
    with Instance(_idle(), images=(BUSYBOX,), credentials=credentials) as instance:
        _until_active(instance, "lamplighter-agent")
        instance.exec("docker", "network", "create", "its-own")
        yield instance


def test_a_machine_boots_works_is_drained_and_powers_itself_off(
    new_control: Callable[..., ControlPlane], capsys: pytest.CaptureFixture[str]
) -> None:
    control = new_control(boot_container((BUSYBOX,), credentials=credentials))

    execution = control.ended_execution(control.submit(BUSYBOX, "hostname", LOOK))

    (machine_id,) = control.cloud.machines
    instance = control.cloud.machines[machine_id]
    events = control.events(execution)
    assert "metadata: closed" in events
    (looked,) = control.outputs(execution)
    assert (looked["name"], control.content(looked)) == ("looked.txt", b"looked\n")
    worked = control.machine(machine_id)
    assert worked.runtime == "docker"
    assert instance.name.startswith(worked.hostname)

    instance.wait_off()

    gone = until(lambda: _gone(control, machine_id), "the control plane knows that the machine is gone")
    assert "drained" in gone.retired_because or "idle" in gone.retired_because
    with capsys.disabled():
        print(f"\na container of the image {control.times(machine_id, execution)}")


def test_only_root_of_the_machine_itself_reaches_the_metadata_service(idle: Instance) -> None:
    assert idle.metadata
    assert SECRET in _as_root(idle)
    before = len(idle.metadata.requests)

    assert _refused(idle, ADDRESS, "--network", "bridge")
    assert _refused(idle, ADDRESS, "--network", "its-own")
    assert _refused(idle, ADDRESS, "--network", "host", "--user", "65534")

    assert len(idle.metadata.requests) == before


def test_a_docker_that_is_started_again_leaves_the_rules_in_force(idle: Instance) -> None:
    idle.exec("systemctl", "restart", "docker")

    assert _refused(idle, ADDRESS)
    assert _refused(idle, ADDRESS, "--network", "its-own")
    assert idle.exec("systemctl", "is-active", "lamplighter-agent").stdout.strip() == "active"


def test_without_the_rules_a_container_would_reach_the_metadata_service(idle: Instance) -> None:
    """So it is the rules that keep it out, and not the way these tests ask."""
    idle.exec("iptables", "-F", "LAMPLIGHTER-METADATA")
    reached = not _refused(idle, ADDRESS)
    idle.exec("systemctl", "restart", "lamplighter-firewall")

    assert reached
    assert _refused(idle, ADDRESS)


@pytest.mark.parametrize("address", ["169.254.170.2", "169.254.170.23", "168.63.129.16"])
def test_other_clouds_metadata_is_refused_at_once(idle: Instance, address: str) -> None:
    assert _refused(idle, address)


def test_metadata_over_ipv6_is_refused(idle: Instance) -> None:
    rules = idle.exec("ip6tables", "-S").stdout

    for address in ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"):
        assert f"-A LAMPLIGHTER-METADATA -d {address}/128 -j REJECT" in rules
    for chain in ("DOCKER-USER", "FORWARD", "OUTPUT -m owner ! --uid-owner 0"):
        assert f"-A {chain} -j LAMPLIGHTER-METADATA" in rules


def test_the_timers_that_end_a_machine_are_armed_before_anything_can_hang(
    new_instance: Callable[..., Instance],
) -> None:
    instance = new_instance(_idle(max_life_seconds=7200))
    _until_active(instance, "lamplighter-agent")

    armed = {name: _moment(instance, f"lamplighter-{name}.timer", "ActiveEnterTimestampMonotonic") for name in TIMERS}
    begun = {
        name: _moment(instance, name, "ExecMainStartTimestampMonotonic")
        for name in ("cloud-init-local.service", "docker.service", "lamplighter-agent.service")
    }
    firewall = _moment(instance, "lamplighter-firewall.service", "ActiveEnterTimestampMonotonic")

    # The hard limit has been armed anew, with what the machine was told: that the first arming came early, its order says.
    assert 0 < armed["deadman"] < min(begun.values())
    assert "cloud-init-local.service" in _property(instance, "lamplighter-maxlife.timer", "Before")
    assert 0 < firewall < begun["docker.service"]
    assert "7200" in instance.exec("systemctl", "cat", "lamplighter-maxlife.timer").stdout
    assert "2h" in _property(instance, "lamplighter-maxlife.timer", "TimersMonotonic")


def test_a_machine_ends_at_its_hard_limit_whatever_it_does(new_instance: Callable[..., Instance]) -> None:
    instance = new_instance(_idle(max_life_seconds=20))

    instance.wait_off(120)

    assert "the hard limit of this machine's life is reached" in instance.logs()


def test_a_machine_whose_agent_cannot_start_ends_itself(new_instance: Callable[..., Instance]) -> None:
    instance = new_instance(user_data(control_url="nonsense", deadman_seconds=5))

    instance.wait_off(120)

    said = instance.logs()
    assert "control_url must be the address of the control plane" in said
    assert "no contact for" in said


def test_a_running_container_keeps_a_silent_machine_on(new_instance: Callable[..., Instance]) -> None:
    instance = new_instance(user_data(control_url="nonsense", deadman_seconds=5), images=(BUSYBOX,))
    _until_active(instance, "docker")
    run = ["docker", "run", "-d", "--name", "run", "--label", "lamplighter.machine=m", BUSYBOX, "sleep", "1000"]
    instance.exec(*run)
    instance.exec("sh", "-c", "echo 0 > /run/lamplighter/contact")

    instance.exec("/usr/lib/lamplighter/deadman")
    assert instance.is_on
    instance.exec("docker", "rm", "-f", "run")
    instance.exec("/usr/lib/lamplighter/deadman")

    instance.wait_off()


def test_a_machine_of_ec2_learns_who_it_is_from_its_metadata_service(new_instance: Callable[..., Instance]) -> None:
    told = user_data(control_url="http://127.0.0.1:9", identity="ec2", installation="0123-abc")
    instance = new_instance(told, credentials=credentials)
    service = instance.metadata
    assert service

    def asked() -> bool:
        return ("GET", "/latest/meta-data/instance-id") in service.requests

    until(asked, "the agent asks which instance it is", seconds=120)


def test_an_agent_that_falls_is_started_again_and_goes_on(new_control: Callable[..., ControlPlane]) -> None:
    control = new_control(boot_container((BUSYBOX,)))
    execution = control.submit(BUSYBOX, "for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done")
    project, counter = execution["project"]["id"], execution["counter"]
    control.started(project, counter, seconds=120)
    (instance,) = control.cloud.machines.values()

    instance.exec("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", "lamplighter-agent")

    ended = control.ended_execution(execution)
    assert [line for line in control.events(ended) if line.startswith("line")] == [f"line {i}" for i in range(1, 7)]


TIMERS = ("maxlife", "deadman")


def _idle(**more: object) -> str:
    """A machine whose control plane does not answer."""
    return user_data(control_url="http://127.0.0.1:9", machine_id="m", join_token="t", **more)


def _refused(instance: Instance, address: str, *options: str) -> bool:
    """Whether a container is refused at once; false when it is answered. Raises `AssertionError` for anything between."""
    ask = f"echo | nc -w 20 {address} 80"
    asked = instance.exec("docker", "run", "--rm", *options, BUSYBOX, "sh", "-c", ask, check=False)
    refused = asked.returncode == 1 and "Connection refused" in asked.stderr
    assert refused or asked.returncode == 0, f"{asked.stdout}{asked.stderr}"
    return refused


def _as_root(instance: Instance) -> str:
    token = f"curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://{ADDRESS}{TOKEN_PATH}"
    path = "/latest/meta-data/iam/security-credentials/lamplighter-worker"
    return instance.exec(
        "sh", "-c", f'curl -sf -H "X-aws-ec2-metadata-token: $({token})" http://{ADDRESS}{path}'
    ).stdout


def _until_active(instance: Instance, unit: str) -> None:
    def look() -> bool:
        return instance.exec("systemctl", "is-active", unit, check=False).stdout.strip() == "active"

    until(look, f"{unit} is active on {instance.name}", seconds=120)


def _property(instance: Instance, unit: str, name: str) -> str:
    return instance.exec("systemctl", "show", "--value", "--property", name, unit).stdout.strip()


def _moment(instance: Instance, unit: str, name: str) -> int:
    return int(_property(instance, unit, name))


def _gone(control: ControlPlane, machine_id: str) -> Machine | None:
    machine = control.machine(machine_id)
    return machine if machine.state is MachineState.GONE else None
