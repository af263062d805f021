"""What an evaluator keeps of the model's outputs for one task, and what it computes from them."""

from collections import defaultdict

import numpy as np
import torch

from dassl.metrics import METRICS, Batch, confusion_matrix
from dassl.metrics.batch import TOP
from dassl.metrics.confidence import image_scores

SCALED = ("ece", "nll")  # metrics that are also computed after temperature scaling, as <name>_scaled
AUROC = "auroc_unknown"
EXTRA = (*(f"{name}_scaled" for name in SCALED), AUROC)  # numbers beside the registered metrics, with TEST.CONFIDENCE


class TaskOutputs:
    """Labels and predictions of one task's images; about 100 bytes per image.

    The logits are kept only if a registered metric needs them, or with `keep_logits`: C * 4 bytes per image.

    Args:
        temperature: logits are also evaluated after division by it, e.g. 1.5; None: they are not.
    """

    def __init__(self, temperature=None, keep_logits=False):
        self.temperature = temperature
        self.width = 0  # C, as far as batches show it
        self._keep_logits = keep_logits or METRICS.need_logits()
        self._kept = defaultdict(list)  # {what: values (b, ...) of each batch}

    def add(self, logits, labels, positions):
        """Take a batch: logits (b, C), labels (b,), and the numbers (b,) of the images in the order of the test."""
        batch = Batch(logits.detach().float().cpu(), labels.cpu())
        self.width = max(self.width, logits.shape[1])
        classes, probabilities = batch.top
        kept = {"labels": batch.labels, "positions": positions, "classes": classes, "probabilities": probabilities}
        kept |= {function: function(batch) for function in METRICS.batch_functions()}
        if self._keep_logits:
            kept["logits"] = batch.logits
        if self.temperature is not None:
            kept["scaled"] = image_scores(Batch(batch.logits / self.temperature, batch.labels))
        for what, values in kept.items():
            self._kept[what].append(values)

    def __getitem__(self, what):
        """Values (n, ...) of all images: "labels", "positions", "logits" (n, C), or of the most probable classes, the
        first one first, "classes" (n, TOP), -1 where a task has fewer, and "probabilities" (n, TOP).
        """
        if what not in self._kept:
            return torch.zeros((0, TOP) if what in ("classes", "probabilities") else 0, dtype=torch.int64)
        if len(self._kept[what]) > 1:
            self._kept[what] = [torch.cat(self._kept[what])]
        return self._kept[what][0]

    def measure(self, *, id, key, name, classnames, metric):
        """Evaluate all images so far.

        Returns:
            the task's entry in the report, with None for every metric if there is no image; the confusion matrix
            (C, C).
        """
        labels, predictions = self["labels"], self["classes"][:, 0]
        confusion = confusion_matrix(labels, predictions, len(classnames))
        values = {each: self._value(METRICS.get(each)) for each in METRICS.registered_names()}
        if self.temperature is not None:
            values |= {f"{each}_scaled": self._value(METRICS.get(each), "scaled") for each in SCALED}
        row = {
            "id": id,
            "key": key,
            "name": name,
            "classes": len(classnames),
            "images": len(labels),
            "metric": metric,
            "value": values[metric],
            **values,
            "classes_without_images": [classnames[index] for index in np.flatnonzero(confusion.sum(1) == 0)],
        }
        return row, confusion

    def _value(self, metric, what=None):
        if not len(self["labels"]):
            return None
        if what is None and metric.needs == "predictions":
            output = self["classes"][:, 0]
        elif what is None and metric.needs == "probabilities":
            output = self["logits"].softmax(1)
        else:
            output = self[what or metric.needs]
        return metric(output, self["labels"])


def suite_mean(rows):
    """Unweighted means over the tasks that have a value; None where no task has one."""
    found = {}
    for key in ("value", *METRICS.registered_names(), *(name for name in EXTRA if name in rows[0])):
        values = [row[key] for row in rows if row[key] is not None]
        found[key] = float(np.mean(values)) if values else None
    return found
