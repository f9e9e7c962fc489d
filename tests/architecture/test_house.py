"""Is the house still the house: what each door may not load, and that every adapter is held to the promises of its port."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]

SDKS = ["boto3", "dulwich", "jsonata", "valohai_yaml", "moto"]
AWS_SDKS = ["boto3", "botocore", "pynamodb"]
QUICK = [*SDKS, "botocore", "pydantic", "aws_lambda_powertools", "yaml", "asyncio", "ssl", "http.client", "sqlite3"]
"""A function that is called often, or waited for: its SDKs come with the first use of what needs them."""

MAY_NOT_LOAD = {
    "lamplighter.usecases.lease_job": [
        *SDKS,
        "pydantic",
        "aws_lambda_powertools",
        "yaml",
        "adapters",
        "functions",
        "ssl",
    ],
    "lamplighter_worker.main": [*SDKS, "pydantic", "yaml", "adapters", "functions", "asyncio", "lamplighter.ports"],
    "functions.api": [*SDKS, "adapters", "uvicorn", "sqlite3", "yaml", "lamplighter_worker"],
    "adapters.metadata.dynamodb_http": [*AWS_SDKS, "pydantic", "urllib.request", "asyncio", "sqlite3"],
    "adapters.secrets.parameter_store": [*AWS_SDKS, "pydantic", "urllib.request", "asyncio", "sqlite3"],
    "functions.aws.worker_api": QUICK,
    "functions.aws.tasks": QUICK,
    "functions.aws.outbox": QUICK,
    "functions.aws.audit": QUICK,
    "functions.aws.events": QUICK,
    "functions.aws.sweep": QUICK,
    "functions.aws.api": [
        *SDKS,
        "yaml",
        "uvicorn",
        "sqlite3",
        "python_multipart",
        "functions.routes.executions",
        "lamplighter_worker",
    ],
    "functions.local.cli": [*SDKS, "pydantic", "aws_lambda_powertools", "uvicorn", "adapters", "sqlite3"],
}

SUITES = {
    "metadata": "test_metadata.py",
    "stores": "test_stores.py",
    "clouds": "test_clouds.py",
    "workflow": "test_workflow.py",
    "githosts": "test_githosts.py",
    "secrets": "test_secrets.py",
}


def loaded_by(module: str) -> list[str]:
    """What a fresh interpreter has loaded after importing `module`, without what it loads anyway."""
    code = f"import sys, json; before = set(sys.modules); import {module}; print(json.dumps(sorted(set(sys.modules) - before)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names: list[str] = json.loads(found.stdout)
    return names


@pytest.mark.parametrize("door", sorted(MAY_NOT_LOAD))
def test_a_door_loads_nothing_that_it_does_not_need(door: str):
    loaded = loaded_by(door)

    assert [name for name in MAY_NOT_LOAD[door] if name in loaded] == []


@pytest.mark.parametrize("port", sorted(SUITES))
def test_every_adapter_in_the_catalogue_is_held_to_the_promises_of_its_port(port: str):
    suite = "".join(path.read_text() for path in (ROOT / "tests" / "conformance").glob("*.py"))

    missing = [
        n for n, place in CATALOGUE[port].items() if place.partition(":")[2] not in suite and f'"{n}' not in suite
    ]

    assert (ROOT / "tests" / "conformance" / SUITES[port]).exists()
    assert missing == []


def test_no_file_outgrows_one_idea():
    """A file over 450 lines almost always holds two."""
    sources = [
        p
        for p in ROOT.glob("*/**/*.py")
        if p.parts[len(ROOT.parts)] in ("lamplighter", "adapters", "functions", "worker_ami")
    ]

    long = {str(p.relative_to(ROOT)): n for p in sources if (n := len(p.read_text().splitlines())) > 450}

    assert sources
    assert long == {}


def test_every_relative_link_in_the_documentation_leads_somewhere():
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("state_machines/*.md"),
    ]

    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]

    assert pages
    assert broken == []
