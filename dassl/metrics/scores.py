"""The metrics that every test reports, and the confusion matrix."""

import numpy as np

from dassl.metrics.registry import METRICS


@METRICS.register()
def overall_acc(predictions, labels):
    """Share of the images that are classified correctly, in per cent."""
    right, _, _ = _counts(predictions, labels)
    return 100.0 * right.sum() / len(labels)


@METRICS.register()
def mean_acc(predictions, labels):
    """Mean over the classes with images of the share of their images that are classified correctly, in per cent."""
    right, images, _ = _counts(predictions, labels)
    return (100.0 * right / images).mean()


@METRICS.register()
def macro_f1(predictions, labels):
    """Mean F1 over the classes with images, in per cent."""
    right, images, predicted = _counts(predictions, labels)
    return 100.0 * (2.0 * right / (images + predicted)).mean()


def _counts(predictions, labels):
    """(images classified correctly, images, predictions) of each class that has images."""
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    classes = max(predictions.max(), labels.max()) + 1
    right, images, predicted = (
        np.bincount(values, minlength=classes) for values in (labels[labels == predictions], labels, predictions)
    )
    present = images > 0
    return right[present], images[present], predicted[present]


def confusion_matrix(labels, predictions, num_classes):
    """Counts of images by label and prediction.

    Args:
        labels: (n,) class indices below `num_classes`.
        predictions: (n,) class indices below `num_classes`.
        num_classes: C.

    Returns:
        (C, C) integers; rows are labels, columns are predictions.

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
    counts = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)
