"""What others who know the format say about our templates."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".cache" / "sam" / "bin"
TEMPLATES = ["template.yaml", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "infra" / "stacks").glob("*.yaml"))]


def said(tool: str, *arguments: str) -> str:
    """What it says of our templates. Nothing leaves this machine."""
    if not (TOOLS / tool).exists():
        pytest.fail(f"{tool} is not installed: run `make sam`")
    here = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "SAM_CLI_TELEMETRY": "0"}
    ended = subprocess.run([TOOLS / tool, *arguments], cwd=ROOT, env=here, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_cfn_lint_finds_nothing():
    assert said("cfn-lint", *TEMPLATES).strip() == ""


def test_the_sam_cli_takes_the_template_for_valid():
    assert "is a valid SAM Template" in said("sam", "validate", "--lint", "--region", "eu-north-1")


def test_what_is_not_looked_at_is_little_and_has_a_reason():
    """Reasons stand beside the exceptions: image ids that may be empty, a certificate that only a domain needs."""
    ignored = {
        code
        for template in TEMPLATES
        for line in (ROOT / template).read_text().splitlines()
        if "ignore_checks" in line
        for code in line.partition("[")[2].partition("]")[0].split(", ")
    }

    assert ignored == {"W2506", "W1030"}
