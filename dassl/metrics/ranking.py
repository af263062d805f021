"""Metrics of rankings, computed only for tasks that declare them: ROC AUC of two classes, average precision of tags."""

import numpy as np

from dassl.metrics.registry import METRICS


def second_class(batch):
    """Probability (b,) of class 1 for a `Batch` of two classes, in double precision, so that few are equal."""
    return batch.logits.double().softmax(1)[:, -1]


@METRICS.register(needs=second_class, declared=True)
def roc_auc(probabilities, labels):
    """Area under the ROC curve of the probability of class 1 of two, in per cent; None without images of both."""
    from sklearn.metrics import roc_auc_score  # slow to import

    return 100.0 * roc_auc_score(labels, probabilities) if len(labels.unique()) == 2 else None


@METRICS.register(needs="logits", tags=True)
def mAP(logits, tags):
    """Mean over the classes with images of the average precision of their logits, in per cent.

    The average precision is the sum of (R_n - R_(n-1)) P_n over the thresholds n, without interpolation
    (`sklearn.metrics.average_precision_score`).
    """
    from sklearn.metrics import average_precision_score

    return _mean_over_classes(average_precision_score, logits, tags)


@METRICS.register(needs="logits", tags=True)
def mAP_11_points(logits, tags):
    """Mean over the classes with images of the 11-point interpolated average precision, in per cent.

    Mean over the recalls r = 0, 0.1, ..., 1 of the largest precision at a recall of r or more (Everingham et al., "The
    PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, eqs. 1-2). As in ELEVATER, whose metric this is, the curve
    is that of `sklearn.metrics.precision_recall_curve`, which adds precision 1 at recall 0.
    """
    from sklearn.metrics import precision_recall_curve

    def average_precision(own, scores):
        precision, recall, _ = precision_recall_curve(own, scores)
        return np.mean([precision[recall >= least].max() for least in np.linspace(0, 1, 11)])

    return _mean_over_classes(average_precision, logits, tags)


def _mean_over_classes(function, logits, tags):
    """100 times the mean of function(tags (n,), logits (n,)) over the classes that an image has."""
    tags, logits = tags.numpy(), logits.numpy()
    return 100.0 * np.mean([function(tags[:, c], logits[:, c]) for c in np.flatnonzero(tags.any(0))])
