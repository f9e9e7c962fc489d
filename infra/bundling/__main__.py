"""`make bundle`: one zip per Lambda function with our code, one per layer with third-party packages, in build/."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from archive import tree, write_zip
from bytecode import compile_tree, interpreter
from code_of import Code, Unbuildable
from layers import PLATFORMS, fill
from plan import FUNCTIONS, LAYERS, Function

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


def main() -> int:
    """0 when every bundle is there, 1 with the reason otherwise; what was there before stays until its successor is whole."""
    given = _parser().parse_args()
    python = interpreter(given.python)
    if not python:
        print(
            f"There is no Python {given.python} here to compile with: cold starts will take longer. "
            f"Install one (`uv python install {given.python}`), or choose another: make bundle LAMBDA_PYTHON=3.11."
        )
    given.to.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bundles-", dir=given.to) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            sizes = _functions(Path(scratch), made, python)
            if not given.functions:
                sizes |= _layers(Path(scratch), made, python, given.python, given.architecture)
            for bundle in made.iterdir():
                bundle.replace(given.to / bundle.name)
    except Unbuildable as fault:
        print(f"The bundles were not built: {fault}", file=sys.stderr)
        return 1
    runtime = f"python{given.python}"
    (given.to / "bundles.json").write_text(
        json.dumps({"runtime": runtime, "architecture": given.architecture, "bytes": sizes}, indent=2) + "\n"
    )
    print(f"For PythonRuntime={runtime} Architecture={given.architecture}: `sam deploy` must be given the same two.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("make bundle", description=__doc__)
    parser.add_argument("--python", default="3.13", choices=("3.11", "3.12", "3.13"), help="Lambda's Python")
    parser.add_argument("--architecture", default="arm64", choices=sorted(PLATFORMS), help="Lambda's processor")
    parser.add_argument("--functions", action="store_true", help="only our own code, not the layers")
    parser.add_argument("--to", type=Path, default=ROOT / "build", help="the folder for the zip files")
    return parser


def _functions(scratch: Path, to: Path, python: str | None) -> dict[str, int]:
    code, sizes = Code(ROOT), {}
    for name, function in FUNCTIONS.items():
        begun = time.monotonic()
        folder = scratch / name
        _gather(code, function, folder)
        if python:
            compile_tree(folder, python)
        sizes[name] = write_zip(to / f"{name}.zip", tree(folder))
        _tell(f"{name}.zip", sizes[name], time.monotonic() - begun, f"{len(code.modules(function))} modules")
    return sizes


def _gather(code: Code, function: Function, folder: Path) -> None:
    for inside, path in code.files(function).items():
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    _name(folder)


def _name(folder: Path) -> None:
    """What `importlib.metadata` reads: the version that the API tells."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")


def _layers(scratch: Path, to: Path, python: str | None, version: str, architecture: str) -> dict[str, int]:
    sizes = {}
    for name, layer in LAYERS.items():
        begun = time.monotonic()
        folder = scratch / f"layer-{name}"
        fill(folder, layer, lock=ROOT / "requirements.lock", python=version, architecture=architecture)
        if python:
            compile_tree(folder, python)
        sizes[f"layer-{name}"] = write_zip(to / f"layer-{name}.zip", tree(folder, "python/"))
        _tell(f"layer-{name}.zip", sizes[f"layer-{name}"], time.monotonic() - begun, ", ".join(layer.packages))
    return sizes


def _tell(name: str, size: int, seconds: float, what: str) -> None:
    print(f"  {name:18} {size / MIB:6.2f} MiB  {seconds:4.1f} s  {what}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
