"""What a machine is told at its launch becomes the agent's options, and its timers' limits even when the rest is refused."""

from __future__ import annotations

import importlib.util
import json
import stat
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "worker_ami" / "image" / "files" / "usr" / "lib" / "lamplighter" / "settings.py"
JOINED = {"control_url": "https://ml.example.org", "machine_id": "m-1", "join_token": "mlm_secret"}
PROVEN = {"control_url": "https://ml.example.org", "identity": "ec2", "installation": "0123-abc"}


def settings(root: Path, told: Any) -> int:
    """The exit code for a machine that was told this."""
    place = root / "etc" / "lamplighter" / "worker.json"
    place.parent.mkdir(parents=True)
    place.write_text(told if isinstance(told, str) else json.dumps(told))
    return run(root)


def run(root: Path) -> int:
    found = importlib.util.spec_from_file_location("settings_of_a_machine", FILE)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return int(module.main(["--root", str(root)]))


def options(root: Path) -> list[str]:
    return (root / "run/lamplighter/agent.env").read_text().removeprefix("OPTIONS=").split()


def test_a_machine_with_a_join_token_gives_it_to_the_agent_in_a_file_of_root(tmp_path: Path) -> None:
    assert settings(tmp_path, JOINED) == 0

    token = tmp_path / "run/lamplighter/join-token"
    assert token.read_text() == "mlm_secret\n"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert " ".join(options(tmp_path)) == (
        "--control-url https://ml.example.org --machine-id m-1 --join-token-file /run/lamplighter/join-token"
        " --runtime docker --input-networks public"
    )


def test_a_machine_of_ec2_needs_no_secret(tmp_path: Path) -> None:
    assert settings(tmp_path, PROVEN) == 0

    assert "--identity ec2 --installation 0123-abc" in " ".join(options(tmp_path))
    assert "--join-token-file" not in options(tmp_path)


def test_limits_reach_the_timers_and_the_agent(tmp_path: Path) -> None:
    assert settings(tmp_path, {**JOINED, "max_life_seconds": 7200, "deadman_seconds": 600, "cache_mib": 0}) == 0

    assert (tmp_path / "run/lamplighter/deadman-seconds").read_text() == "600\n"
    limit = tmp_path / "run/systemd/system/lamplighter-maxlife.timer.d/limit.conf"
    assert limit.read_text() == "[Timer]\nOnBootSec=\nOnBootSec=7200s\n"
    assert options(tmp_path)[-4:] == ["--cache-mib", "0", "--idle-power-off-seconds", "600"]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"max_life_hours": 168}, 604_800),
        ({"max_life_hours": 8760}, 31_536_000),
        ({"max_life_hours": 2, "max_life_seconds": 60}, 60),
        ({"max_life_hours": 1, "max_life_seconds": 7200}, 3600),
    ],
)
def test_a_life_may_be_told_in_hours_and_the_shorter_of_two_limits_holds(
    told: dict[str, int], seconds: int, tmp_path: Path
) -> None:
    assert settings(tmp_path, {**PROVEN, **told}) == 0

    limit = tmp_path / "run/systemd/system/lamplighter-maxlife.timer.d/limit.conf"
    assert limit.read_text() == f"[Timer]\nOnBootSec=\nOnBootSec={seconds}s\n"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"control_url": None}, "control_url must be"),
        ({"control_url": "ftp://x"}, "control_url must be"),
        ({"control_url": "https://x --runtime process"}, "control_url must be"),
        ({"control_url": "https://[x"}, "control_url must be"),
        ({"machine_id": "--help"}, "machine_id must be"),
        ({"machine_id": "a b"}, "machine_id must be"),
        ({"join_token": ""}, "join_token must be"),
        ({"join_token": 7}, "join_token must be"),
        ({"identity": "gce"}, "identity must be one of"),
        ({"identity": "ec2"}, "installation must be"),
        ({"runtime": "podman"}, "runtime must be one of"),
        ({"input_networks": ["any"]}, "input_networks must be one of"),
        ({"cache_mib": -1}, "cache_mib must be a whole number"),
        ({"max_life_seconds": True}, "max_life_seconds must be"),
        ({"max_life_seconds": 10**9}, "max_life_seconds must be"),
        ({"max_life_hours": 8761}, "max_life_hours must be"),
        ({"max_life_hours": 0}, "max_life_hours must be"),
        ({"deadman_seconds": "600"}, "deadman_seconds must be"),
        ({"controlurl": "x"}, "'controlurl' is no field"),
    ],
)
def test_a_fault_is_told_in_one_line_and_the_agent_gets_nothing(
    change: dict[str, Any], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert settings(tmp_path, {**JOINED, **change}) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert fault in line
    assert "mlm_secret" not in line
    assert not (tmp_path / "run/lamplighter/agent.env").exists()


@pytest.mark.parametrize("told", ["", "no json", "[]", "[" * 100_000, '{"a": "' + "x" * 70_000 + '"}'])
def test_what_is_no_object_is_refused(told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings(tmp_path, told) == 1

    assert "/etc/lamplighter/worker.json: " in capsys.readouterr().err


def test_a_machine_that_was_told_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 1

    assert "there is no such file" in capsys.readouterr().err


def test_limits_hold_even_when_the_rest_is_refused(tmp_path: Path) -> None:
    assert settings(tmp_path, {"control_url": "nonsense", "deadman_seconds": 60, "max_life_seconds": 120}) == 1

    assert (tmp_path / "run/lamplighter/deadman-seconds").read_text() == "60\n"
    assert (tmp_path / "run/systemd/system/lamplighter-maxlife.timer.d/limit.conf").exists()
