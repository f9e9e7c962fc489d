"""What is in the bundles that `sam deploy` uploads: all that a function needs, nothing that it does not, each time the same."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.e2e.server import ROOT

FUNCTIONS = ("api", "worker_api", "tasks", "outbox", "audit", "events", "sweep")

NEVER = (
    "functions.local",
    "adapters.metadata.sqlite",
    "adapters.workflow.embedded",
    "adapters.clouds.local",
    "lamplighter_worker",
)
"""Parts of the house that no Lambda function needs."""

NOT_THERE = {
    "worker_api": (
        "functions.routes.executions",
        "adapters.clouds.ec2",
        "adapters.workflow",
        "adapters.blueprints.valohai",
    ),
    "tasks": ("functions.routes", "functions.resolver", "adapters.githosts"),
    "outbox": ("functions.routes", "functions.resolver", "adapters.githosts", "adapters.clouds.ec2"),
    "audit": ("functions.routes", "adapters.metadata", "adapters.clouds", "lamplighter.usecases"),
    "events": ("functions.routes", "functions.resolver", "adapters.githosts"),
    "sweep": ("functions.routes", "functions.resolver", "adapters.githosts"),
}

NOT_AT_START = {
    "boto3",
    "botocore.client",
    "pynamodb",
    "pydantic",
    "aws_lambda_powertools",
    "yaml",
    "dulwich",
    "jsonata",
    "asyncio",
}

ROUTING = {"api": {"aws_lambda_powertools", "asyncio", "pydantic"}}
"""The router of the API, which loads more than it uses; Lambda starts it with a whole core."""

SMALL = 3 * 1024 * 1024
"""No function's own code comes near it; a bundle above it holds what it should not."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("bundles"))


def test_who_builds_twice_gets_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = _build(tmp_path)

    for name in FUNCTIONS:
        assert (built / f"{name}.zip").read_bytes() == (again / f"{name}.zip").read_bytes(), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_starts_from_its_bundle_alone(name: str, built: Path) -> None:
    """Without the layer of SDKs, and but for the API without any: those are loaded when a call needs them, not at a cold start."""
    look = f"import sys, json; import functions.aws.{name} as f; callable(f.handler); print(json.dumps(sorted(sys.modules)))"
    unpacked = built / name
    zipfile.ZipFile(built / f"{name}.zip").extractall(unpacked)
    places = [str(unpacked), *([sysconfig.get_path("purelib")] if name == "api" else [])]
    started = f"import sys; sys.path[:0] = {places!r}\n{look}"

    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", started], capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.returncode == 0, ran.stderr
    unwanted = NOT_AT_START - ROUTING.get(name, set())
    assert unwanted & set(json.loads(ran.stdout)) == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_bundle_holds_bytecode_for_each_module_and_no_stranger(name: str, built: Path) -> None:
    inside = zipfile.ZipFile(built / f"{name}.zip").namelist()
    modules = {
        path[: -len(".py")].replace("/", ".").removesuffix(".__init__") for path in inside if path.endswith(".py")
    }
    unwanted = (*NEVER, *NOT_THERE.get(name, ()))

    assert len([path for path in inside if path.endswith(".pyc")]) == len(
        [path for path in inside if path.endswith(".py")]
    )
    assert f"functions.aws.{name}" in modules
    assert not [module for module in modules for bad in unwanted if module == bad or module.startswith(f"{bad}.")]
    assert (built / f"{name}.zip").stat().st_size < SMALL


def test_the_page_and_every_route_are_in_the_bundle_of_the_api(built: Path) -> None:
    inside = zipfile.ZipFile(built / "api.zip").namelist()
    routes = {f"functions/routes/{path.name}" for path in (ROOT / "functions" / "routes").glob("*.py")}

    assert "web/index.html" in inside
    assert routes <= set(inside)
    assert "functions/openapi.py" in inside


def _build(folder: Path) -> Path:
    words = [
        sys.executable,
        str(ROOT / "infra" / "bundling"),
        "--functions",
        "--python",
        _version(),
        "--to",
        str(folder),
    ]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
