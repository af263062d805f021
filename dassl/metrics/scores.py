"""Scores of one task from labels and predictions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Scores of one task, in per cent; None when the task has no image.

    Attributes:
        images: number of images.
        overall_acc: share of images predicted right.
        mean_acc: mean over the classes that have images of the share of their images predicted right.
        macro_f1: mean F1 over the classes that have images.
        class_acc: (C,) accuracy of each class, NaN for a class without images.
        empty: class indices without images.
        confusion: (C, C) counts, rows are labels, columns predictions.
    """

    images: int
    overall_acc: float | None
    mean_acc: float | None
    macro_f1: float | None
    class_acc: np.ndarray
    empty: tuple
    confusion: np.ndarray


def classification_scores(labels, predictions, num_classes):
    """Scores of predictions against labels.

    Args:
        labels: (n,) class indices below `num_classes`.
        predictions: (n,) class indices below `num_classes`.
        num_classes: C.

    Raises:
        ValueError: lengths differ, or an index lies outside the C classes.
    """
    labels = np.asarray(labels, dtype=np.int64).reshape(-1)
    predictions = np.asarray(predictions, dtype=np.int64).reshape(-1)
    if len(labels) != len(predictions):
        raise ValueError(f"{len(labels)} labels but {len(predictions)} predictions")
    for what, values in (("label", labels), ("prediction", predictions)):
        if len(values) and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{what}s from {values.min()} to {values.max()}, expected 0 to {num_classes - 1}")
    confusion = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    confusion = confusion.reshape(num_classes, num_classes)  # (C, C)
    right, images, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)  # (C,) each
    present = images > 0
    with np.errstate(invalid="ignore"):
        class_acc = 100.0 * right / images
    empty = tuple(int(index) for index in np.flatnonzero(~present))
    if not present.any():
        return Scores(0, None, None, None, class_acc, empty, confusion)
    f1 = 2.0 * right[present] / (images + predicted)[present]
    return Scores(
        images=len(labels),
        overall_acc=float(100.0 * right.sum() / len(labels)),
        mean_acc=float(class_acc[present].mean()),
        macro_f1=float(100.0 * f1.mean()),
        class_acc=class_acc,
        empty=empty,
        confusion=confusion,
    )
