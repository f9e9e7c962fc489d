"""Splits the handwritten digits that come with scikit-learn into a training and a test part."""

import json

import numpy
import valohai
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

valohai.prepare(step="preprocess", default_parameters={"test_share": 0.25, "seed": 7})

images, labels = load_digits(return_X_y=True)
train_images, test_images, train_labels, test_labels = train_test_split(
    images / 16.0,
    labels,
    test_size=valohai.parameters("test_share").value,
    random_state=valohai.parameters("seed").value,
    stratify=labels,
)

path = valohai.outputs().path("digits.npz")
numpy.savez_compressed(
    path, train_images=train_images, train_labels=train_labels, test_images=test_images, test_labels=test_labels
)
with open(f"{path}.metadata.json", "w") as sidecar:
    json.dump({"valohai.alias": "digits-data", "valohai.tags": ["digits"], "images": len(images)}, sidecar)

print(json.dumps({"train_images": len(train_images), "test_images": len(test_images)}))
