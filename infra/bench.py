"""Runs every benchmark in `tests/bench/`, one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    """The number of benchmarks that failed."""
    scripts = sorted(p for p in (ROOT / "tests" / "bench").glob("*.py") if not p.name.startswith("_"))
    if not scripts:
        print("There are no benchmarks in tests/bench/ yet.")
    failed = []
    for script in scripts:
        name = script.relative_to(ROOT)
        print(f"== {name}", flush=True)
        module = ".".join(name.with_suffix("").parts)
        if subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=False).returncode != 0:
            failed.append(script.stem)
        print(flush=True)
    if failed:
        print(f"{len(failed)} of {len(scripts)} benchmarks failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main())
