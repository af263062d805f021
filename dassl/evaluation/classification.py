"""Classification of one task, and of several tasks whose classes stand side by side in the logits."""

import os
from collections import OrderedDict

import numpy as np
import torch

from dassl.evaluation.build import EVALUATOR_REGISTRY, EvaluatorBase
from dassl.metrics import classification_scores
from dassl.utils.errors import UserError

METRICS = ("overall_acc", "mean_acc", "macro_f1")


def task_row(scores, *, id, key, name, classnames, metric):
    """Row of one task in the report; scores in per cent, None when the task has no image."""
    return {
        "id": id,
        "key": key,
        "name": name,
        "classes": len(classnames),
        "images": scores.images,
        "metric": metric,
        "value": getattr(scores, metric),
        **{metric_name: getattr(scores, metric_name) for metric_name in METRICS},
        "classes_without_images": [classnames[index] for index in scores.empty],
    }


def suite_mean(rows):
    """Unweighted means over the tasks that have images; None when no task has any."""
    rows = [row for row in rows if row["images"]]
    return {key: float(np.mean([row[key] for row in rows])) if rows else None for key in ("value", *METRICS)}


def percent(value):
    return "no image" if value is None else f"{value:.2f}%"


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error rate and macro F1 of one task.

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
                f"TEST.EVALUATOR Classification evaluates one task, {cfg.DATASET.NAME} has {space.num_tasks}; use "
                "ClassificationMT, or one task with DATASET.SUBSAMPLE_TASKS task<i>"
            )
        self.space, self.lab2cname = space, lab2cname
        self.reset()

    def reset(self):
        self._labels, self._predictions, self._width = [], [], 0

    def process(self, mo, gt):
        """Take a batch.

        Args:
            mo: (B, C) logits.
            gt: (B,) class indices.
        """
        self._width = max(self._width, mo.shape[1])
        self._predictions.append(mo.argmax(1).cpu())
        self._labels.append(gt.cpu())

    def evaluate(self):
        """Print and return the scores, in per cent: accuracy, error_rate, macro_f1, perclass_accuracy if asked for."""
        names = self._classnames()
        scores = classification_scores(_joined(self._labels), _joined(self._predictions), len(names))
        task = self.space.tasks[0] if self.space is not None else None
        row = task_row(
            scores,
            id=task.id if task else 0,
            key=task.key if task else self.cfg.DATASET.NAME,
            name=task.name if task else self.cfg.DATASET.NAME,
            classnames=names,
            metric=task.metric if task else "overall_acc",
        )
        self.report = {"tasks": [row], "mean": suite_mean([row])}
        if not scores.images:
            print(f"{self.heading()}\n* total: 0\n* no image to evaluate")
            return OrderedDict(accuracy=float("nan"), error_rate=float("nan"), macro_f1=float("nan"))
        results = OrderedDict(
            accuracy=scores.overall_acc, error_rate=100.0 - scores.overall_acc, macro_f1=scores.macro_f1
        )
        print(
            f"{self.heading()}\n"
            f"* total: {scores.images:,}\n"
            f"* correct: {int(np.trace(scores.confusion)):,}\n"
            f"* accuracy: {results['accuracy']:.2f}%\n"
            f"* error: {results['error_rate']:.2f}%\n"
            f"* macro_f1: {results['macro_f1']:.2f}%"
        )
        _print_empty(names, scores.empty)
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = scores.mean_acc
            _print_classes(names, scores)
            print(f"* average: {scores.mean_acc:.2f}%")
        if self.cfg.TEST.COMPUTE_CMAT:
            _save_confusion(self.cfg, {row["name"]: scores.confusion})
        return results

    def _classnames(self):
        if self.space is not None:
            return list(self.space.tasks[0].classnames)
        known = max([label for part in self._labels for label in part.tolist()], default=-1) + 1
        count = max(self._width, known, *(label + 1 for label in self.lab2cname or {-1: ""}))
        return [(self.lab2cname or {}).get(index, str(index)) for index in range(count)]


@EVALUATOR_REGISTRY.register()
class ClassificationMT(EvaluatorBase):
    """Scores of several tasks: each image is classified among the classes of its own task.

    Args:
        cfg: configuration.
        lab2cname: unused, taken for the common signature.
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
        self._labels, self._predictions, self._tasks = [], [], []

    def process(self, mo, gt, task):
        """Take a batch.

        Args:
            mo: (B, N) logits over the classes of all tasks.
            gt: (B,) class index within the task.
            task: (B,) position of the task in the TaskSpace.

        Raises:
            UserError: NaN among the logits of a sample's own task, which argmax would take for a prediction.
        """
        if mo.shape[1] != self.space.num_classes:
            raise ValueError(f"logits have {mo.shape[1]} columns, the tasks have {self.space.num_classes} classes")
        mo, task = mo.detach().float().cpu(), task.cpu()
        mo = mo.masked_fill(~self.space.mask(task), float("-inf"))
        if (bad := mo.isnan().any(1)).any():
            found = sorted(set(task[bad].tolist()))
            names = ", ".join(f"{self.space.tasks[t].id} ({self.space.tasks[t].name})" for t in found)
            raise UserError(
                f"the logits of {int(bad.sum())} of {len(mo)} images are NaN, tasks {names}: the model's weights or an "
                "image's features are. The usual remedies: a smaller OPTIM.LR, PREC fp32 instead of half precision"
            )
        column = mo.argmax(1)  # (B,)
        offsets = torch.as_tensor(self.space.offsets)
        self._predictions.append(column - offsets[task])
        self._labels.append(gt.cpu())
        self._tasks.append(task)

    def measure(self):
        """The report of all images since reset(), without printing it, and the scores of each task."""
        labels, predictions, tasks = map(_joined, (self._labels, self._predictions, self._tasks))
        rows, all_scores = [], []
        for position, task in enumerate(self.space.tasks):
            mine = tasks == position
            scores = classification_scores(labels[mine], predictions[mine], len(task.classnames))
            all_scores.append(scores)
            rows.append(
                task_row(
                    scores, id=task.id, key=task.key, name=task.name, classnames=task.classnames, metric=task.metric
                )
            )
        return {"tasks": rows, "mean": suite_mean(rows)}, all_scores

    def evaluate(self):
        """Print and return suite and task scores, in per cent.

        Returns:
            OrderedDict: overall_metric (mean of the tasks' declared metrics), overall_acc, mean_acc, macro_f1 (means of
            the tasks'), then task<id>/<metric> of every task that has images.
        """
        self.report, all_scores = self.measure()
        rows, mean = self.report["tasks"], self.report["mean"]
        print(f"{self.heading()}\n* total: {sum(row['images'] for row in rows):,}")
        print(f"* overall_metric: {percent(mean['value'])}")
        for metric in METRICS:
            print(f"* {metric}: {percent(mean[metric])}")
        for row in rows:
            if not row["images"]:
                print(f"* note: task {row['id']} ({row['name']}) has no image; it is left out of the means")
        if self.cfg.TEST.PER_TASK_RESULT:
            self._print_tasks(rows, all_scores, mean)
        if self.cfg.TEST.COMPUTE_CMAT:
            _save_confusion(self.cfg, {row["name"]: s.confusion for row, s in zip(rows, all_scores, strict=True)})
        nan = float("nan")
        results = OrderedDict(overall_metric=nan if mean["value"] is None else mean["value"])
        results.update({metric: nan if mean[metric] is None else mean[metric] for metric in METRICS})
        for row in rows:
            results.update({f"task{row['id']}/{metric}": row[metric] for metric in METRICS if row["images"]})
        return results

    def _print_tasks(self, rows, all_scores, mean):
        print(self.heading("per-task result"))
        for row in rows:
            print(f"* task: {row['id']} ({row['name']})\ttotal: {row['images']:,}\tmetric: {percent(row['value'])}")
        print(f"* average: {percent(mean['value'])}")
        for row, scores, task in zip(rows, all_scores, self.space.tasks, strict=True):
            if row["images"]:
                _print_empty(task.classnames, scores.empty, f" of task {row['id']} ({row['name']})")
            if self.cfg.TEST.PER_CLASS_RESULT:
                print(self.heading(f"per-class result of {row['name']}"))
                _print_classes(task.classnames, scores)


def _joined(parts):
    return torch.cat(parts).numpy() if parts else np.zeros(0, dtype=np.int64)


def _print_empty(names, empty, where=""):
    if empty:
        print(f"* note: classes without images{where}, left out of mean_acc: {', '.join(names[i] for i in empty)}")


def _print_classes(names, scores):
    for index, name in enumerate(names):
        row = scores.confusion[index]
        if row.sum():
            counts = f"total: {row.sum():,}\tcorrect: {row[index]:,}\tacc: {scores.class_acc[index]:.1f}%"
            print(f"* class: {index} ({name})\t{counts}")


def _save_confusion(cfg, matrices):
    path = os.path.join(cfg.OUTPUT_DIR, "cmat.pt")
    torch.save({name: torch.from_numpy(matrix) for name, matrix in matrices.items()}, path)
    print(f"Confusion matrices saved to {path}")
