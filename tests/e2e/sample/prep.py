"""Writes outputs in folders, prints lines and metadata."""

import sys
from pathlib import Path

import valohai

Path(valohai.outputs().path("data.csv")).write_text("a,b\n1,2\n")
Path(valohai.outputs("deep/er").path("table.csv")).write_text("c\n3\n")
Path(valohai.outputs("deep").path("blob.bin")).write_bytes(bytes(range(256)) * 40)
print("preparing")
print("a word of warning", file=sys.stderr)
with valohai.logger() as log:
    log.log("rows", 1)
with valohai.logger() as log:
    log.log("rows", 2)
print("prepared")
