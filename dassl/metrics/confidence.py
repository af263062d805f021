"""Metrics of the predicted probabilities. Three numbers per image suffice, so logits are not kept."""

import torch

from dassl.metrics.batch import TOP
from dassl.metrics.registry import METRICS

BINS = 15  # of the calibration error, as in Guo et al.


def image_scores(batch):
    """Reduce a `Batch` to what the metrics of this file need.

    Returns:
        (b, 3) fp32: negative log-likelihood of the label (nats); largest probability; rank of the label from 0 by
        probability, and TOP for all lower ranks. The prediction has rank 0.
    """
    classes, probabilities = batch.top
    found = classes == batch.labels[:, None]  # (b, TOP)
    rank = torch.where(found.any(1), found.int().argmax(1), TOP)
    known = batch.labels < batch.logits.shape[1]  # a label beyond the logits has probability 0
    column = batch.labels.where(known, 0)[:, None]
    loss = (-batch.log_probabilities.gather(1, column)[:, 0]).where(known, torch.inf)
    return torch.stack([loss, probabilities[:, 0], rank.float()], 1)


@METRICS.register(needs=image_scores, headline=False)
def top5_acc(scores, labels):
    """Share of the images whose label is among the five most probable classes, in per cent."""
    return 100.0 * (scores[:, 2] < TOP).double().mean()


@METRICS.register(needs=image_scores, larger_is_better=False, headline=False)
def ece(scores, labels):
    """Expected calibration error of the predicted class with 15 bins of equal width, in per cent.

    Mean over the images of |accuracy - mean confidence| of their bin; bins are (low, high]. Guo et al., "On Calibration
    of Modern Neural Networks", eq. 3.
    """
    confidence, right = scores[:, 1].contiguous(), (scores[:, 2] == 0).double()
    bins = torch.bucketize(confidence, torch.linspace(0, 1, BINS + 1)[1:-1])  # (n,)
    gaps = torch.zeros(BINS, dtype=torch.double).index_add_(0, bins, right - confidence)
    return 100.0 * gaps.abs().sum() / len(bins)


@METRICS.register(needs=image_scores, larger_is_better=False, unit="", headline=False)
def nll(scores, labels):
    """Mean negative log-likelihood of the labels, in nats."""
    return scores[:, 0].double().mean()
