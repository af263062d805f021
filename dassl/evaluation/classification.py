"""Evaluate the classification of one task, or of several tasks whose classes are columns of the same logits."""

import os
from collections import OrderedDict

import numpy as np
import torch

from dassl.evaluation.build import EVALUATOR_REGISTRY, EvaluatorBase
from dassl.evaluation.outputs import AUROC, TagOutputs, outputs_of, suite_mean
from dassl.evaluation.temperature import best_temperature
from dassl.metrics import METRICS
from dassl.runs.record import CMAT
from dassl.utils import atomic_write
from dassl.utils.errors import UserError

CONFUSIONS = 5  # most frequent confusions of a task that are printed


class TaskEvaluator(EvaluatorBase):
    """Shared parts of the evaluators of this file: the outputs of each task, and the quality of the probabilities.

    Attributes:
        temperatures: one per task, with which logits are evaluated, too; None before `fit_temperatures`.
    """

    space, temperatures = None, None

    def reset(self, keep_logits=False):
        """Forget all images. `keep_logits`: keep the logits of the next ones, for `fit_temperatures`."""
        metrics = ["overall_acc"] if self.space is None else [task.metric for task in self.space.tasks]
        known = self.temperatures or [None] * len(metrics)
        scales = [None if self.temperatures is None else temperature or 1.0 for temperature in known]
        self._outputs = [outputs_of(m, scale, keep_logits) for m, scale in zip(metrics, scales, strict=True)]
        self._images = 0  # number of images so far

    def fit_temperatures(self):
        """Fit the temperature of each task on its images since `reset(keep_logits=True)`.

        It is None for a tagging task, and for a task whose images do not determine it (`best_temperature`), which is
        then evaluated with 1.
        """
        self.temperatures = [
            None if isinstance(outputs, TagOutputs) else best_temperature(outputs["logits"], outputs["labels"])
            for outputs in self._outputs
        ]

    def predictions(self):
        """What was predicted since `reset`, without the tagging tasks.

        Returns:
            per task {"key", "classnames" (C), "positions" (n,) of its images in the order of the test, "labels" (n,),
            "classes" (n, TOP) and "probabilities" (n, TOP) of the most probable classes, -1 and 0 where C is smaller}.
        """
        what = ("positions", "labels", "classes", "probabilities")
        return [
            {"key": key, "classnames": names, **{name: outputs[name].numpy() for name in what}}
            for (key, names), outputs in zip(self.names(), self._outputs, strict=True)
            if not isinstance(outputs, TagOutputs)
        ]

    def names(self):
        """(key, names of the classes) of each task."""
        return [(task.key, task.classnames) for task in self.space.tasks]

    def add_unknown(self, confidences):
        """Add the AUROC of known against unknown classes to the report.

        Args:
            confidences: per task the largest probabilities of images of none of its classes.
        """
        from sklearn.metrics import roc_auc_score  # slow to import

        for row, outputs, unknown in zip(self.report["tasks"], self._outputs, confidences, strict=True):
            known = outputs["probabilities"][:, 0].tolist()
            row["unknown_images"], row[AUROC] = len(unknown), None
            if known and unknown:
                row[AUROC] = 100.0 * float(roc_auc_score([1] * len(known) + [0] * len(unknown), known + unknown))
        self.report["mean"] = suite_mean(self.report["tasks"])
        print(f"AUROC of images of unknown classes: {METRICS.get('overall_acc').show(self.report['mean'][AUROC])}")

    def _positions(self, count):
        """Numbers (count,) of the next images in the order of the test."""
        self._images += count
        return torch.arange(self._images - count, self._images)

    def _rows(self, rows):
        """The report of the tasks' entries."""
        if self.temperatures is not None:
            rows = [{**row, "temperature": value} for row, value in zip(rows, self.temperatures, strict=True)]
        return {"tasks": rows, "mean": suite_mean(rows)}

    def _print_probabilities(self, row):
        """Print the metrics without a line of their own on one line, unless this is a validation."""
        names = METRICS.names(headline=False)
        if any(row[name] is not None for name in names) and not self.validating:
            print("Probabilities: " + ", ".join(f"{name} {METRICS.get(name).show(row[name])}" for name in names))


@EVALUATOR_REGISTRY.register()
class Classification(TaskEvaluator):
    """Accuracy, error rate and the further registered metrics of one task.

    Args:
        cfg: configuration.
        lab2cname: {label: class name}; without it (and without `space`) classes are numbered by the logits' width.
        space: TaskSpace with one task, which names task and classes in the report.

    Raises:
        UserError: `space` has several tasks, or a tagging task.
    """

    def __init__(self, cfg, lab2cname=None, space=None, **kwargs):
        super().__init__(cfg)
        if space is not None and space.num_tasks != 1:
            raise UserError(
                f"TEST.EVALUATOR Classification evaluates one task, {cfg.DATASET.NAME} has {space.num_tasks}; "
                "choose one with DATASET.SUBSAMPLE_TASKS task<i>, or with a multi-task trainer use ClassificationMT"
            )
        if space is not None and space.tagging is not None:
            raise UserError(
                f"TEST.EVALUATOR Classification expects one class per image, but {space.tasks[0].key} is a tagging "
                f"task (METRIC {space.tasks[0].metric}); use TEST.EVALUATOR ClassificationMT"
            )
        self.space, self.lab2cname = space, lab2cname
        self.reset()

    def process(self, mo, gt):
        """Take a batch.

        Args:
            mo: (B, C) logits.
            gt: (B,) class indices.
        """
        self._outputs[0].add(mo, gt, self._positions(len(gt)))

    def evaluate(self):
        """Print the result and return it, in per cent.

        Returns:
            OrderedDict: accuracy, error_rate, the registered metrics from macro_f1 on, and with TEST.PER_CLASS_RESULT
            perclass_accuracy.
        """
        names = self._classnames()
        task = self.space.tasks[0] if self.space is not None else None
        row, confusion = self._outputs[0].measure(
            id=task.id if task else 0,
            key=task.key if task else self.cfg.DATASET.NAME,
            name=task.name if task else self.cfg.DATASET.NAME,
            classnames=names,
        )
        self.report = self._rows([row])
        shown = METRICS.names(headline=True, declared={row["metric"]})
        others = [name for name in shown if name not in ("overall_acc", "mean_acc")]
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
        self._print_probabilities(row)
        _print_empty(row)
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = row["mean_acc"]
            _print_classes(names, confusion)
            print(f"* average: {row['mean_acc']:.2f}%")
        if self.cfg.TEST.COMPUTE_CMAT:
            _save_confusion(self.cfg, {row["name"]: confusion})
        results.update(_numbers(row, METRICS.names(headline=False)))
        return results

    def names(self):
        return [(self.space.tasks[0].key if self.space is not None else self.cfg.DATASET.NAME, self._classnames())]

    def _classnames(self):
        """The names of all classes that the space, lab2cname, the width of the logits or the labels know."""
        declared = dict(enumerate(self.space.tasks[0].classnames)) if self.space is not None else {}
        names = {**(self.lab2cname or {}), **declared}
        known = max(self._outputs[0]["labels"].tolist(), default=-1)
        count = max(self._outputs[0].width, 1 + max(known, *names, -1))
        return [names.get(index, str(index)) for index in range(count)]


@EVALUATOR_REGISTRY.register()
class ClassificationMT(TaskEvaluator):
    """The registered metrics of several tasks: each image is classified among the classes of its own task.

    A tagging task has its own metric only.

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

    def process(self, mo, gt, task=None):
        """Take a batch.

        Args:
            mo: (B, N) logits over the classes of all tasks.
            gt: (B,) class index within the task; or (B, N) labels as `TaskSpace.encode` gives them, where an image may
                have a class in each of several tasks, or several classes of a tagging task.
            task: (B,) position of the task in the TaskSpace; not needed for labels (B, N).

        Raises:
            ValueError: the logits have another number of columns than the tasks have classes.
            UserError: labels (B,) without `task` or with a tagging task; or NaN among the logits of an image's own
                task, which argmax would take for a prediction.
        """
        if task is None and gt.ndim == 1:
            raise UserError(
                "ClassificationMT needs the task of each image: evaluator.process(output, label, batch['task']); for a "
                "dataset with one task use TEST.EVALUATOR Classification"
            )
        if mo.shape[1] != self.space.num_classes:
            raise ValueError(f"logits have {mo.shape[1]} columns, the tasks have {self.space.num_classes} classes")
        if gt.ndim == 1 and self.space.tagging is not None:
            raise UserError("ClassificationMT needs labels (B, N), see TaskSpace.encode, for tagging tasks")
        mo, gt = mo.detach().float().cpu(), gt.cpu()
        if gt.ndim == 2:
            of_task = {t: gt[:, self.space.columns(t)] for t in range(self.space.num_tasks)}  # task -> (B, C)
            own = {t: coded.eq(1).any(1) for t, coded in of_task.items() if coded.eq(1).any()}
            coded = {t: of_task[t][mine] for t, mine in own.items()}  # task -> (b, C)
            labels = {t: c.eq(1) if self.space.tasks[t].tagging else c.argmax(1) for t, c in coded.items()}
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
        positions = self._positions(len(mo))
        for t, mine in own.items():
            self._outputs[t].add(own_logits[t], labels[t], positions[mine])

    def measure(self):
        """Evaluate all images since reset() without printing.

        Returns:
            the report {"tasks": [...], "mean": {...}}; the confusion matrix (C, C) of each task, None of tagging tasks.
        """
        declared = {task.metric for task in self.space.tasks}
        measured = [
            outputs.measure(id=task.id, key=task.key, name=task.name, classnames=task.classnames, declared=declared)
            for outputs, task in zip(self._outputs, self.space.tasks, strict=True)
        ]
        return self._rows([row for row, _ in measured]), [confusion for _, confusion in measured]

    def evaluate(self):
        """Print the results of suite and tasks and return them, in per cent.

        Returns:
            OrderedDict: overall_metric (mean of the tasks' declared metrics), the mean over the tasks of every
            registered metric, then task<id>/<metric> of every task that has images.
        """
        self.report, confusions = self.measure()
        rows, mean = self.report["tasks"], self.report["mean"]
        print(f"{self.heading()}\n* total: {sum(row['images'] for row in rows):,}")
        print(f"* overall_metric: {METRICS.get('overall_acc').show(mean['value'])}")
        declared = {row["metric"] for row in rows}
        shown = METRICS.names(headline=True, declared=declared)
        if all(METRICS.get(name).tags for name in declared):  # other metrics need a predicted class
            shown = [name for name in shown if name in declared]
        _print_metrics(mean, shown)
        self._print_probabilities(mean)
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
            pairs = zip([task.name for task in self.space.tasks], confusions, strict=True)
            _save_confusion(self.cfg, {name: confusion for name, confusion in pairs if confusion is not None})
        results = OrderedDict(overall_metric=float("nan") if mean["value"] is None else mean["value"])
        names = METRICS.names(declared=declared)
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
            if self.cfg.TEST.PER_CLASS_RESULT and confusion is not None:
                print(self.heading(f"per-class result of {row['name']}"))
                _print_classes(task.classnames, confusion)


def _numbers(row, names):
    """{name: value}, NaN where there is no value."""
    return {name: float("nan") if row[name] is None else row[name] for name in names}


def _print_metrics(row, names):
    for name in names:
        print(f"* {name}: {METRICS.get(name).show(row[name])}")


def _print_empty(row, where=""):
    if names := row["classes_without_images"]:
        left_out = row["metric"] if METRICS.get(row["metric"]).tags else "mean_acc"
        print(f"* note: classes without images{where}, left out of {left_out}: {', '.join(names)}")


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
    """Save {task: confusion matrix (C, C)} as tensors."""
    path = os.path.join(cfg.OUTPUT_DIR, CMAT)
    with atomic_write(path, "wb") as stream:
        torch.save({name: torch.from_numpy(matrix) for name, matrix in matrices.items()}, stream)
    print(f"Confusion matrices saved to {path}")
