"""Counts to ten in steps that take a while, keeps where it is when it is interrupted, and goes on from there."""

import time
from pathlib import Path

import valohai

kept = [Path(path) for path in valohai.inputs("_restart").paths()]
first = max((int(path.read_text()) for path in kept if path.name == "step.txt"), default=0)
print(f"from {first} with {sorted(path.name for path in kept)}", flush=True)
number = first
try:
    while number < 10:
        number += 1
        print(f"step {number}", flush=True)
        # The first machine is too slow to ever come to its end.
        time.sleep(600 if number == 3 and not kept else 0.01)
except KeyboardInterrupt:
    Path(valohai.outputs().path("step.txt")).write_text(f"{number}\n")
    print("interrupted", flush=True)
    raise SystemExit(0) from None
Path(valohai.outputs().path("model.txt")).write_text(f"{number}\n")
