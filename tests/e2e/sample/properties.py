"""Says more about its outputs than their names."""

from pathlib import Path

import valohai

for name in ("model.bin", "plain.bin"):
    Path(valohai.outputs().path(name)).write_bytes(name.encode() * 100)
with valohai.output_properties() as properties:
    properties.add(
        file="model.bin",
        properties={"valohai.tags": ["prod", "small"], "valohai.alias": "model-prod", "accuracy": 0.93},
    )
    properties.add_to_dataset(file="model.bin", dataset_version=properties.dataset_version_uri("digits", "v2"))
