"""A validator that we did not write accepts the state machines that are deployed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from lamplighter.ports import Json
from tests.state_machines.stage import DEFINITIONS, FOLDER

VALIDATOR = Path(__file__).parents[2] / ".cache" / "asl" / "node_modules" / ".bin" / "asl-validator"


def validated(path: Path) -> subprocess.CompletedProcess[str]:
    assert VALIDATOR.exists(), "asl-validator is not installed: run `make emulators`"
    return subprocess.run([str(VALIDATOR), "--json-path", str(path)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_a_definition_is_valid(name: str) -> None:
    told = validated(FOLDER / f"{name}.asl.json")

    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"Next": "Nowhere"}, "MISSING_TRANSITION_TARGET"),
        ({"Output": "{% $states.input( %}"}, "SCHEMA_VALIDATION_FAILED"),
    ],
)
def test_a_definition_with_a_fault_is_not(fault: Json, said: str, tmp_path: Path) -> None:
    definition = json.loads(json.dumps(DEFINITIONS["execution"]))
    definition["States"]["Run"] |= fault
    path = tmp_path / "broken.asl.json"
    path.write_text(json.dumps(definition))

    told = validated(path)

    assert told.returncode == 1
    assert said in told.stdout + told.stderr
