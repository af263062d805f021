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
        metric: name of the task's own metric.
        temperature: logits are also evaluated after division by it, e.g. 1.5; None: they are not.
    """

    def __init__(self, metric="overall_acc", temperature=None, keep_logits=False):
        self.metric, self.temperature = metric, temperature
        self.width = 0  # C, as far as batches show it
        self._keep_logits = keep_logits or METRICS.need_logits()
        self._kept = defaultdict(list)  # {what: values (b, ...) of each batch}

    def add(self, logits, labels, positions):
        """Take a batch: logits (b, C), labels (b,), and the numbers (b,) of the images in the order of the test."""
        batch = Batch(logits.detach().float().cpu(), labels.cpu())
        self.width = max(self.width, logits.shape[1])
        classes, probabilities = batch.top
        kept = {"labels": batch.labels, "positions": positions, "classes": classes, "probabilities": probabilities}
        kept |= {function: function(batch) for function in METRICS.batch_functions((self.metric,))}
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

    def measure(self, *, id, key, name, classnames, declared=()):
        """Evaluate all images so far.

        Args:
            declared: metrics that tasks of the report declare; those of other tasks are None.

        Returns:
            the task's entry in the report, with None for every metric if there is no image; the confusion matrix
            (C, C), None of a tagging task.
        """
        values, images, confusion = self._measured(METRICS.names(declared={*declared, self.metric}), len(classnames))
        row = {
            "id": id,
            "key": key,
            "name": name,
            "classes": len(classnames),
            "images": len(self["labels"]),
            "metric": self.metric,
            "value": values[self.metric],
            **values,
            "classes_without_images": [classnames[index] for index in np.flatnonzero(images == 0)],
        }
        return row, confusion

    def _measured(self, names, classes):
        """({metric: value}, number of images of each class, confusion matrix)."""
        confusion = confusion_matrix(self["labels"], self["classes"][:, 0], classes)
        values = {each: self._value(METRICS.get(each)) for each in names}
        if self.temperature is not None:
            values |= {f"{each}_scaled": self._value(METRICS.get(each), "scaled") for each in SCALED}
        return values, confusion.sum(1), confusion

    def _value(self, metric, what=None):
        if not len(self["labels"]) or (metric.declared and metric.name != self.metric):
            return None
        if what is None and metric.needs == "predictions":
            output = self["classes"][:, 0]
        elif what is None and metric.needs == "probabilities":
            output = self["logits"].softmax(1)
        else:
            output = self[what or metric.needs]
        return metric(output, self["labels"])


class TagOutputs(TaskOutputs):
    """Logits and tags of a tagging task's images. Other metrics than its own are None: they need a predicted class."""

    def add(self, logits, labels, positions):
        """Take a batch: logits (b, C), labels (b, C) bool."""
        for what, values in (("logits", logits.detach().float().cpu()), ("labels", labels.cpu())):
            self._kept[what].append(values)

    def _measured(self, names, classes):
        labels, values = self["labels"].view(-1, classes), dict.fromkeys(names)
        values[self.metric] = self._value(METRICS.get(self.metric))
        if self.temperature is not None:
            values |= {f"{each}_scaled": None for each in SCALED}
        return values, labels.sum(0).numpy(), None


def outputs_of(metric, temperature=None, keep_logits=False):
    """The outputs of a task with the metric `metric`, see `TaskOutputs`."""
    kind = TagOutputs if METRICS.get(metric).tags else TaskOutputs
    return kind(metric, temperature, keep_logits)


def suite_mean(rows):
    """Unweighted means over the tasks that have a value; None where no task has one."""
    found, names = {}, METRICS.names(declared={row["metric"] for row in rows})
    for key in ("value", *names, *(name for name in EXTRA if name in rows[0])):
        values = [row[key] for row in rows if row[key] is not None]
        found[key] = float(np.mean(values)) if values else None
    return found
