"""Trains a small neural network on the digits and prints its metrics after every epoch."""

import json

import joblib
import numpy
import valohai
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

valohai.prepare(
    step="train",
    default_parameters={"learning_rate": 0.01, "epochs": 15, "hidden": 48, "seed": 7},
    default_inputs={"digits": ""},
)

with numpy.load(valohai.inputs("digits").path(process_archives=False)) as digits:
    train_images, train_labels = digits["train_images"], digits["train_labels"]
    test_images, test_labels = digits["test_images"], digits["test_labels"]

model = MLPClassifier(
    hidden_layer_sizes=(valohai.parameters("hidden").value,),
    learning_rate_init=valohai.parameters("learning_rate").value,
    batch_size=64,
    random_state=valohai.parameters("seed").value,
)
classes = numpy.unique(train_labels)
accuracy = 0.0
for epoch in range(1, valohai.parameters("epochs").value + 1):
    model.partial_fit(train_images, train_labels, classes=classes)
    accuracy = round(float(model.score(test_images, test_labels)), 4)
    with valohai.logger() as logger:
        logger.log("epoch", epoch)
        logger.log("loss", round(float(log_loss(train_labels, model.predict_proba(train_images))), 4))
        logger.log("accuracy", accuracy)

path = valohai.outputs().path("model.joblib")
joblib.dump(model, path)
with open(f"{path}.metadata.json", "w") as sidecar:
    json.dump({"valohai.alias": "digits-model", "valohai.tags": ["digits"], "accuracy": accuracy}, sidecar)
