"""Uses valohai-utils as people do."""

import json
from pathlib import Path

import valohai

valohai.prepare(
    step="library",
    image="lamplighter/python-utils:3.11",
    default_parameters={"lr": 0.001},
    default_inputs={"images": "https://nowhere.invalid/never.zip"},
)
found = {
    "lr": valohai.parameters("lr").value,
    "images": [Path(path).read_text() for path in valohai.inputs("images").paths()],
    "name": Path(valohai.inputs("images").path()).name,
}
for accuracy in (0.5, 0.9):
    with valohai.logger() as log:
        log.log("acc", accuracy)
Path(valohai.outputs("models").path("found.json")).write_text(json.dumps(found))
