"""Evaluate the classification of one task, or of several tasks whose classes are columns of the same logits."""

import csv
import os
from collections import OrderedDict

import numpy as np
import torch

from dassl.evaluation.build import EVALUATOR_REGISTRY, EvaluatorBase
from dassl.metrics import METRICS, confusion_matrix
from dassl.runs.record import CMAT, CONFUSION
from dassl.utils import atomic_write
from dassl.utils.errors import UserError

CONFUSIONS = 5  # most frequent confusions of a task that are printed


class TaskOutputs:
    """The labels and predictions of one task's images, and their logits only if a registered metric needs them."""

    def __init__(self):
        self.width = 0  # C, as far as batches show it
        self._labels, self._predictions, self._logits = [], [], []

    def add(self, logits, labels):
        """Take the logits (b, C) and the labels (b,) of a batch."""
        self.width = max(self.width, logits.shape[1])
        self._predictions.append(logits.argmax(1).cpu())
        self._labels.append(labels.cpu())
        if METRICS.need_logits():
            self._logits.append(logits.detach().float().cpu())

    @property
    def labels(self):
        """LongTensor (n,)."""
        return _joined(self._labels)

    def measure(self, *, id, key, name, classnames, metric):
        """Evaluate all images so far.

        Returns:
            the task's entry in the report, with None for every metric if there is no image; the confusion matrix
            (C, C).
        """
        labels, predictions = self.labels, _joined(self._predictions)
        confusion = confusion_matrix(labels, predictions, len(classnames))
        outputs = {"predictions": predictions}
        if self._logits:
            outputs["logits"] = torch.cat(self._logits)
            outputs["probabilities"] = outputs["logits"].softmax(1)
        values = {
            each: METRICS.get(each)(outputs[METRICS.get(each).needs], labels) if len(labels) else None
            for each in METRICS.registered_names()
        }
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


def suite_mean(rows):
    """Unweighted means over the tasks that have a value; None where no task has one."""
    found = {}
    for key in ("value", *METRICS.registered_names()):
        values = [row[key] for row in rows if row[key] is not None]
        found[key] = float(np.mean(values)) if values else None
    return found


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error rate and the further registered metrics of one task.

    Args:
        cfg: configuration.
        lab2cname: {label: class name}; without it (and without `space`) classes are numbered by the logits' width.
        space: TaskSpace with one task, which names task and classes in the report.

    Raises:
        UserError: `space` has several tasks.
    """

    def __init__(self, cfg, lab2cname=None, space=None, **kwargs):
        super().__init__(cfg)
        if space is not None and space.num_tasks != 1:
            raise UserError(
                f"TEST.EVALUATOR Classification evaluates one task, {cfg.DATASET.NAME} has {space.num_tasks}; "
                "choose one with DATASET.SUBSAMPLE_TASKS task<i>, or with a multi-task trainer use ClassificationMT"
            )
        self.space, self.lab2cname = space, lab2cname
        self.reset()

    def reset(self):
        self._outputs = TaskOutputs()

    def process(self, mo, gt):
        """Take a batch.

        Args:
            mo: (B, C) logits.
            gt: (B,) class indices.
        """
        self._outputs.add(mo, gt)

    def evaluate(self):
        """Print the result and return it, in per cent.

        Returns:
            OrderedDict: accuracy, error_rate, the registered metrics from macro_f1 on, and with TEST.PER_CLASS_RESULT
            perclass_accuracy.
        """
        names = self._classnames()
        task = self.space.tasks[0] if self.space is not None else None
        row, confusion = self._outputs.measure(
            id=task.id if task else 0,
            key=task.key if task else self.cfg.DATASET.NAME,
            name=task.name if task else self.cfg.DATASET.NAME,
            classnames=names,
            metric=task.metric if task else "overall_acc",
        )
        self.report = {"tasks": [row], "mean": suite_mean([row])}
        others = [name for name in METRICS.registered_names() if name not in ("overall_acc", "mean_acc")]
        if not row["images"]:
            print(f"{self.heading()}\n* total: 0\n* no image to evaluate")
            return OrderedDict.fromkeys(("accuracy", "error_rate", *others), float("nan"))
        results = OrderedDict(accuracy=row["overall_acc"], error_rate=100.0 - row["overall_acc"])
        results.update(_numbers(row, others))
        print(
            f"{self.heading()}\n"
            f"* total: {row['images']:,}\n"
            f"* correct: {int(np.trace(confusion)):,}\n"
            f"* accuracy: {results['accuracy']:.2f}%\n"
            f"* error: {results['error_rate']:.2f}%"
        )
        _print_metrics(row, others)
        _print_empty(row)
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = row["mean_acc"]
            _print_classes(names, confusion)
            print(f"* average: {row['mean_acc']:.2f}%")
        if self.cfg.TEST.COMPUTE_CMAT:
            _save_confusion(self.cfg, {row["name"]: (names, confusion)})
        return results

    def _classnames(self):
        """The names of all classes that the space, lab2cname, the width of the logits or the labels know."""
        declared = dict(enumerate(self.space.tasks[0].classnames)) if self.space is not None else {}
        names = {**(self.lab2cname or {}), **declared}
        known = max(self._outputs.labels.tolist(), default=-1)
        count = max(self._outputs.width, 1 + max(known, *names, -1))
        return [names.get(index, str(index)) for index in range(count)]


@EVALUATOR_REGISTRY.register()
class ClassificationMT(EvaluatorBase):
    """The registered metrics of several tasks: each image is classified among the classes of its own task.

    Args:
        cfg: configuration.
        lab2cname: not used; part of the common signature.
        space: TaskSpace, whose columns are those of the logits.
    """

    needs_task = True

    def __init__(self, cfg, lab2cname=None, space=None, **kwargs):
        super().__init__(cfg)
        if space is None:
            raise UserError("ClassificationMT needs the TaskSpace of the data (space=dm.space)")
        self.space = space
        self.reset()

    def reset(self):
        self._outputs = [TaskOutputs() for _ in self.space.tasks]

    def process(self, mo, gt, task=None):
        """Take a batch.

        Args:
            mo: (B, N) logits over the classes of all tasks.
            gt: (B,) class index within the task; or (B, N) labels as `TaskSpace.encode` gives them, where an image may
                have a class in each of several tasks.
            task: (B,) position of the task in the TaskSpace; not needed for labels (B, N).

        Raises:
            ValueError: the logits have another number of columns than the tasks have classes.
            UserError: labels (B,) without `task`; or NaN among the logits of an image's own task, which argmax would
                take for a prediction.
        """
        if task is None and gt.ndim == 1:
            raise UserError(
                "ClassificationMT needs the task of each image: evaluator.process(output, label, batch['task']); for a "
                "dataset with one task use TEST.EVALUATOR Classification"
            )
        if mo.shape[1] != self.space.num_classes:
            raise ValueError(f"logits have {mo.shape[1]} columns, the tasks have {self.space.num_classes} classes")
        mo, gt = mo.detach().float().cpu(), gt.cpu()
        if gt.ndim == 2:
            of_task = {t: gt[:, self.space.columns(t)] for t in range(self.space.num_tasks)}  # task -> (B, C)
            own = {t: coded.eq(1).any(1) for t, coded in of_task.items() if coded.eq(1).any()}
            labels = {t: of_task[t][mine].argmax(1) for t, mine in own.items()}  # task -> (b,)
        else:
            own = {t: task.cpu() == t for t in task.unique().tolist()}  # task -> (B,) its images
            labels = {t: gt[mine] for t, mine in own.items()}
        own_logits = {t: mo[mine, self.space.columns(t)] for t, mine in own.items()}  # task -> (b, C)
        if bad := {t: int(x.isnan().any(1).sum()) for t, x in own_logits.items() if x.isnan().any()}:
            names = ", ".join(f"{self.space.tasks[t].id} ({self.space.tasks[t].name})" for t in bad)
            raise UserError(
                f"the logits of {sum(bad.values())} of {len(mo)} images are NaN, tasks {names}: the model's weights or "
                "an image's features are NaN. Try a smaller OPTIM.LR, or PREC fp32 instead of half precision"
            )
        for t in own:
            self._outputs[t].add(own_logits[t], labels[t])

    def measure(self):
        """Evaluate all images since reset() without printing.

        Returns:
            the report {"tasks": [...], "mean": {...}}; the confusion matrix (C, C) of each task.
        """
        measured = [
            outputs.measure(id=task.id, key=task.key, name=task.name, classnames=task.classnames, metric=task.metric)
            for outputs, task in zip(self._outputs, self.space.tasks, strict=True)
        ]
        rows = [row for row, _ in measured]
        return {"tasks": rows, "mean": suite_mean(rows)}, [confusion for _, confusion in measured]

    def evaluate(self):
        """Print the results of suite and tasks and return them, in per cent.

        Returns:
            OrderedDict: overall_metric (mean of the tasks' declared metrics), the mean over the tasks of every
            registered metric, then task<id>/<metric> of every task that has images.
        """
        self.report, confusions = self.measure()
        rows, mean, names = self.report["tasks"], self.report["mean"], METRICS.registered_names()
        print(f"{self.heading()}\n* total: {sum(row['images'] for row in rows):,}")
        print(f"* overall_metric: {METRICS.get('overall_acc').show(mean['value'])}")
        _print_metrics(mean, names)
        if len(rows) > 1:
            print(
                "* note: these numbers are unweighted means over the tasks, overall_metric of the metric each declares"
            )
        for row in rows:
            if not row["images"]:
                print(f"* note: task {row['id']} ({row['name']}) has no image; it is left out of the means")
        if self.cfg.TEST.PER_TASK_RESULT:
            self._print_tasks(rows, confusions, mean)
        if self.cfg.TEST.COMPUTE_CMAT:
            named = zip(self.space.tasks, confusions, strict=True)
            _save_confusion(self.cfg, {task.name: (task.classnames, each) for task, each in named})
        results = OrderedDict(overall_metric=float("nan") if mean["value"] is None else mean["value"])
        results.update(_numbers(mean, names))
        for row in rows:
            if row["images"]:
                results.update({f"task{row['id']}/{name}": value for name, value in _numbers(row, names).items()})
        return results

    def _print_tasks(self, rows, confusions, mean):
        print(self.heading("per-task result"))
        for row in rows:
            value = METRICS.get(row["metric"]).show(row["value"])
            print(f"* task: {row['id']} ({row['name']})\ttotal: {row['images']:,}\tmetric: {value}")
        print(f"* average: {METRICS.get('overall_acc').show(mean['value'])}")
        for row, confusion, task in zip(rows, confusions, self.space.tasks, strict=True):
            if row["images"]:
                _print_empty(row, f" of task {row['id']} ({row['name']})")
            if self.cfg.TEST.PER_CLASS_RESULT:
                print(self.heading(f"per-class result of {row['name']}"))
                _print_classes(task.classnames, confusion)


def _joined(parts):
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def _numbers(row, names):
    """{name: value}, NaN where there is no value."""
    return {name: float("nan") if row[name] is None else row[name] for name in names}


def _print_metrics(row, names):
    for name in names:
        print(f"* {name}: {METRICS.get(name).show(row[name])}")


def _print_empty(row, where=""):
    if names := row["classes_without_images"]:
        print(f"* note: classes without images{where}, left out of mean_acc: {', '.join(names)}")


def _print_classes(names, confusion):
    for index, (name, row) in enumerate(zip(names, confusion, strict=True)):
        if images := row.sum():
            right = row[index]
            print(
                f"* class: {index} ({name})\ttotal: {images:,}\tcorrect: {right:,}\tacc: {100.0 * right / images:.1f}%"
            )
    wrong = confusion - np.diag(np.diag(confusion))
    most = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]]
    if found := [
        f"{names[label]} as {names[guess]} ({wrong[label, guess]:,} of {confusion[label].sum():,})"
        for label, guess in most
        if wrong[label, guess]
    ]:
        print(f"* most frequent confusions: {', '.join(found)}")


def _save_confusion(cfg, matrices):
    """Save {task: (names of the classes, confusion matrix (C, C))}: as tensors, and with the names as CSV."""
    path = os.path.join(cfg.OUTPUT_DIR, CMAT)
    with atomic_write(path, "wb") as stream:
        torch.save({name: torch.from_numpy(matrix) for name, (_, matrix) in matrices.items()}, stream)
    table = os.path.join(cfg.OUTPUT_DIR, CONFUSION)
    with atomic_write(table) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("task", "class", "predicted", "images"))
        for task, (names, matrix) in matrices.items():
            found = zip(*np.nonzero(matrix), strict=True)
            writer.writerows((task, names[label], names[guess], matrix[label, guess]) for label, guess in found)
    print(f"Confusion matrices saved to {path}, and with the names of the classes to {table}")
