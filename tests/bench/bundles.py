"""What is deployed: the size of each bundle, and its cold import from the unpacked zip, with boto3 and one DynamoDB client as 1.

Processor time of fresh processes without packages of their own, taken in turns, the least counts. Goals: a zip of at most 3 MB;
the API at most 0.65, every other function at most 0.40.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from tests.e2e.server import ROOT

ROUNDS = 9
MOST_BYTES = 3 * 1000 * 1000
FLOOR = "import boto3; boto3.client('dynamodb', region_name='eu-north-1')"
GOALS = {"api": 0.65}
GOAL = 0.40


def main() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory(prefix="bundles-") as scratch:
        to = Path(scratch)
        script = [str(ROOT / "infra" / "bundling" / "bundle.sh"), "--python", version, "--architecture", "x86_64"]
        subprocess.run([*script, "--to", str(to)], check=True, stdout=subprocess.DEVNULL)
        sizes = json.loads((to / "bundles.json").read_text())["bytes"]
        programs = {"floor": (FLOOR, [sysconfig.get_path("purelib")]), "bare": ("pass", [])}
        for name in sizes:
            zipfile.ZipFile(to / f"{name}.zip").extractall(to / name)
        layers = [str(to / name / "python") for name in sizes if name.startswith("layer-")]
        functions = [name for name in sizes if not name.startswith("layer-")]
        programs |= {name: (f"import functions.aws.{name}", [str(to / name), *layers]) for name in functions}
        taken = {name: _seconds(*program) for name, program in programs.items()}
        for _ in range(ROUNDS):
            taken = {name: min(taken[name], _seconds(*program)) for name, program in programs.items()}
    _table(sizes, taken)


def _seconds(code: str, places: list[str]) -> float:
    """The processor time of one fresh interpreter, from start to end."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path[:0] = {places!r}\n{code}"]
    )
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"this program failed: {code}")
    return used.ru_utime + used.ru_stime


def _table(sizes: dict[str, int], taken: dict[str, float]) -> None:
    floor = taken["floor"] - taken["bare"]
    print(f"{'bundle':18} {'zip MB':>7} {'':7} {'ms':>6} {'ratio':>6}  goal")
    print(f"{'boto3 + one client':18} {'':7} {'':7} {floor * 1000:6.0f} {1:6.2f}")
    for name, size in sizes.items():
        small = "" if name.startswith("layer-") else "met" if size <= MOST_BYTES else "MISSED"
        line = f"{name:18} {size / 1e6:7.2f} {small:7}"
        if name in taken:
            ratio, goal = (taken[name] - taken["bare"]) / floor, GOALS.get(name, GOAL)
            line += f" {ratio * floor * 1000:6.0f} {ratio:6.2f}  {goal:.2f} {'met' if ratio <= goal else 'MISSED'}"
        print(line)


if __name__ == "__main__":
    main()
