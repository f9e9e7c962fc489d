"""Writes down what it was given, by every way there is."""

import json
import os
import sys
from pathlib import Path

config = Path(os.environ["VH_CONFIG_DIR"])
inputs = Path(os.environ["VH_INPUTS_DIR"])
seen = {
    "arguments": sys.argv[1:],
    "parameters": json.loads((config / "parameters.json").read_text()),
    "inputs": {str(path.relative_to(inputs)): path.read_text() for path in inputs.rglob("*") if path.is_file()},
    "described": json.loads((config / "inputs.json").read_text()),
    "execution": json.loads((config / "execution.json").read_text()),
    "variables": {name: os.environ.get(name) for name in ("A", "VH_EXECUTION_ID", "VH_JOB_ID", "VALOHAI_PORT")},
    "config": sorted(path.name for path in config.iterdir()),
}
(Path(os.environ["VH_OUTPUTS_DIR"]) / "seen.json").write_text(json.dumps(seen))
