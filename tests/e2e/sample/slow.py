"""Writes an output and a numbered line ten times a second, until its time is over or it is told to end."""

import time
from pathlib import Path

import valohai

seconds = valohai.parameters("seconds").value
Path(valohai.outputs().path("early.txt")).write_text("written at once\n")
print("first line", flush=True)
end = time.monotonic() + seconds
number = 0
while time.monotonic() < end:
    number += 1
    print(f"line {number}", flush=True)
    time.sleep(0.1)
Path(valohai.outputs().path("late.txt")).write_text(f"{number}\n")
print("last line", flush=True)
