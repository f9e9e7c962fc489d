"""Hands over an output at once, and goes on."""

import time
from pathlib import Path

import valohai

Path(valohai.outputs().path("a.txt")).write_text("ready long before the end\n")
valohai.outputs().live_upload("a.txt")
time.sleep(600)
