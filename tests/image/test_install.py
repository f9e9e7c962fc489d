"""How the image is made: the same twice over, without a network the second time, and with nothing of whoever made it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docker import ensure_docker
from tests.image.instance import IMAGE

ROOT = Path(__file__).resolve().parents[2]
MAKER = ROOT / "worker_ami" / "image"
SCRIPTS = [*MAKER.glob("*.sh"), *MAKER.glob("files/usr/lib/lamplighter/[!s]*"), ROOT / "infra/setup/image.sh"]
SCRIPTS.append(MAKER / "files/usr/lib/lamplighter/scratch")

# All that the image holds, but for what a container's engine lays over it.
_CENSUS = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /kit \\) -prune"
    " -o \\( -type f -printf '%p %m %u ' -exec sha256sum {} \\; \\) -o \\( -type l -printf '%p -> %l\\n' \\)"
    " | grep -v -e '^/etc/resolv.conf ' -e '^/etc/host' | sort"
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("kit") / "kit"
    subprocess.run([MAKER / "kit.sh", made], check=True, timeout=60)
    return made


def in_image(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A shell script in a container of the image, without a network."""
    ensure_docker()
    command = ["docker", "run", "--rm", "--network", "none", *options, IMAGE, "/bin/bash", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def said(script: str, *options: str) -> str:
    ran = in_image(script, *options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_has_no_fault_that_shellcheck_knows(script: Path) -> None:
    checked = subprocess.run(
        ["shellcheck", "-x", "-P", "SCRIPTDIR", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_installing_again_changes_nothing_and_asks_nobody(kit: Path) -> None:
    install = "/kit/install.sh >&2"
    script = f"{install} && {_CENSUS} > /tmp/once && {install} && {_CENSUS} > /tmp/twice && diff /tmp/once /tmp/twice"

    assert said(script, "-v", f"{kit}:/kit:ro") == ""


def test_the_image_holds_nothing_of_the_machine_that_it_was_made_on() -> None:
    left = said(
        "cat /etc/machine-id; ls -A /var/lib/cloud /var/lib/apt/lists /var/lib/docker /var/lib/lamplighter | grep -v :"
        " ; ls /etc/ssh/ssh_host_* /etc/lamplighter/worker.json /var/lib/dbus/machine-id 2>/dev/null; true"
    )

    assert left.strip() == ""


def test_systemd_finds_no_fault_in_the_units() -> None:
    ran = in_image("systemd-analyze verify /etc/systemd/system/lamplighter-*.{service,timer} 2>&1 | grep lamplighter-")

    assert ran.stdout == ""


def test_the_image_says_what_it_consists_of() -> None:
    packages = said("cat /usr/lib/lamplighter/packages.txt").splitlines()

    assert len(packages) > 100
    assert any(re.fullmatch(r"docker\.io \S+ \S+", line) for line in packages)


def test_nobody_can_log_in_and_nothing_is_downloaded_unasked() -> None:
    units = ("ssh.service", "ssh.socket", "apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service")

    states = said(f"for unit in {' '.join(units)}; do systemctl is-enabled $unit; done; true").split()

    assert states == ["masked"] * len(units)


def test_of_the_library_the_kit_holds_what_the_agent_uses(kit: Path) -> None:
    held = {path.name for path in (kit / "agent" / "lamplighter").iterdir()}

    assert held == {"__init__.py", "errors.py", "contract"}
    assert not list(kit.rglob("__pycache__"))


# Stand in for what would reach NVIDIA: no machine of these tests has a GPU.
_FAKES = {
    "curl": 'while [ "$1" != -o ]; do shift; done; : > "$2"',
    "gpg": 'case "$*" in *show-keys*) echo "fpr:::::::::$FINGERPRINT:" ;; *) : > "$3" ;; esac',
    "apt-get": "exit 0",
    "dpkg-query": 'case "$*" in *Status*) echo -n installed ;; *) echo -n "$TOOLKIT" ;; esac',
    "nvidia-ctk": "echo configured",
}


@pytest.mark.parametrize(
    ("fingerprint", "toolkit", "told"),
    [
        ("0" * 40, "1.19.1-1", "NVIDIA's key is not the one that is known"),
        (
            "EB693B3035CD5710E231E123A4B469963BF863CC",
            "1.19.0-1",
            "nvidia-container-toolkit 1.19.0-1 lets containers out",
        ),
    ],
)
def test_a_foreign_key_and_a_toolkit_with_known_holes_are_refused(
    fingerprint: str, toolkit: str, told: str, kit: Path, tmp_path: Path
) -> None:
    for name, text in _FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    fakes = ["-v", f"{tmp_path}:/fakes:ro", "-e", "PATH=/fakes:/usr/sbin:/usr/bin:/sbin:/bin"]
    facts = ["-e", f"FINGERPRINT={fingerprint}", "-e", f"TOOLKIT={toolkit}", "-e", "LAMPLIGHTER_GPU=1"]

    ran = in_image("/kit/install.sh", "-v", f"{kit}:/kit:ro", *fakes, *facts)

    assert ran.returncode == 1
    assert told in ran.stderr
    assert "configured" not in ran.stdout


@pytest.mark.parametrize(("architecture", "gpu"), [("amd64", "false"), ("arm64", "false"), ("amd64", "true")])
def test_packer_accepts_the_template(architecture: str, gpu: str, kit: Path, tmp_path: Path) -> None:
    """Debian's Packer is the last one before plugins: two settings that came later are taken out for it."""
    template = (MAKER / "worker.pkr.hcl").read_text()
    older, blocks = re.subn(r"\n  metadata_options \{.*?\n  \}\n", "\n", template, flags=re.DOTALL)
    older, lines = re.subn(r"\n  imds_support .*", "", older)
    (tmp_path / "worker.pkr.hcl").write_text(older)
    given = {"region": "eu-north-1", "architecture": architecture, "gpu": gpu, "kit": str(kit)}
    variables = [word for name, value in given.items() for word in ("-var", f"{name}={value}")]

    packer = shutil.which("packer") or "packer"
    checked = subprocess.run(
        [packer, "validate", *variables, "worker.pkr.hcl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1"},
        check=False,
    )

    assert (blocks, lines) == (1, 1)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_machine_that_the_image_is_built_on_and_the_image_itself_are_closed_and_encrypted() -> None:
    template = (MAKER / "worker.pkr.hcl").read_text()

    for setting in (
        *(r"http_tokens += \"required\"", r"http_put_response_hop_limit = 1", r"imds_support += \"v2.0\""),
        *(r"encrypt_boot += true", r"encrypted += true", r"volume_type += \"gp3\""),
    ):
        assert re.search(setting, template), setting
