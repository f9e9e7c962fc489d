"""Measures a trained model on the test part and writes down which digits it takes for which."""

import csv
import json

import joblib
import numpy
import valohai
from sklearn.metrics import accuracy_score, confusion_matrix

valohai.prepare(step="evaluate", default_inputs={"digits": "", "model": ""})

model = joblib.load(valohai.inputs("model").path(process_archives=False))
with numpy.load(valohai.inputs("digits").path(process_archives=False)) as digits:
    images, labels = digits["test_images"], digits["test_labels"]

guesses = model.predict(images)
confusion = confusion_matrix(labels, guesses)
with open(valohai.outputs().path("confusion.csv"), "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["digit", *(f"taken for {digit}" for digit in range(10))])
    table.writerows([digit, *row] for digit, row in enumerate(confusion.tolist()))

mistakes = confusion.copy()
numpy.fill_diagonal(mistakes, 0)
digit, guess = divmod(int(mistakes.argmax()), 10)
accuracy = round(float(accuracy_score(labels, guesses)), 4)
print(f"Most often mistaken: {digit} for {guess} ({mistakes[digit, guess]} of {confusion[digit].sum()})")
print(json.dumps({"accuracy": accuracy, "mistakes": int(mistakes.sum()), "images": len(images)}))
