"""Writes down which files it was given."""

import json
import os
from pathlib import Path

import valohai

folder = Path(os.environ["VH_INPUTS_DIR"]) / "files"
found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
Path(valohai.outputs().path("collected.json")).write_text(json.dumps(found))
