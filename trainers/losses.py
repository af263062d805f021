"""Losses over the joint class axis of several tasks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.layers import at_least_fp32
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace

declare(
    "TRAINER.LABEL_SMOOTHING",
    0.0,
    allowed=between(0, 1),
    help="share of the target that is spread evenly over the classes of the image's task in the step",
)


def multitask_cross_entropy(
    logits: Tensor,
    task_of_column: Tensor,
    task: Tensor,
    target: Tensor,
    smoothing: float = 0.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum of the samples' cross-entropies, each over the classes of the sample's task, divided by B (SoftCPT).

    logits (B, N'), task_of_column (N',), task (B,), target (B,): column of each sample's class. `smoothing` e (Szegedy
    et al., "Rethinking the Inception Architecture for Computer Vision"): the target is 1 - e on the sample's class plus
    e / C on each of the C columns of its task. `weight` (B,): factor of each sample's cross-entropy. Returns a scalar.
    """
    others = task_of_column != task[:, None]  # (B, N')
    masked = at_least_fp32(logits).masked_fill(others, float("-inf"))
    loss = F.cross_entropy(masked, target, reduction="mean" if weight is None else "none")
    if weight is not None:
        loss = (weight * loss).mean()
    if smoothing == 0:
        return loss
    uniform = _uniform_cross_entropy(masked, others)
    return (1 - smoothing) * loss + smoothing * (uniform if weight is None else weight * uniform).mean()


def _uniform_cross_entropy(masked: Tensor, others: Tensor) -> Tensor:
    """Cross-entropy (B,) with equal targets on the columns that are not `others` (B, N'), of logits -inf on these."""
    # F.cross_entropy cannot smooth masked logits: -inf times the target 0 is NaN
    log_p = F.log_softmax(masked, -1).masked_fill(others, 0.0)
    return -log_p.sum(-1) / (~others).sum(-1)


def label_cross_entropy(
    logits: Tensor, task_of_column: Tensor, task: Tensor, target: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The cross-entropies (B,) of which `multitask_cross_entropy` is the mean, with the same arguments."""
    others = task_of_column != task[:, None]
    masked = at_least_fp32(logits).masked_fill(others, float("-inf"))
    loss = F.cross_entropy(masked, target, reduction="none")
    return loss if smoothing == 0 else (1 - smoothing) * loss + smoothing * _uniform_cross_entropy(masked, others)


def tag_cross_entropy(logits: Tensor, task_of_column: Tensor, task: Tensor, tags: Tensor) -> Tensor:
    """Binary cross-entropy of each sample (B,), the mean over the classes of its task.

    -1/C sum_c [y_c log s(z_c) + (1 - y_c) log(1 - s(z_c))] with the logistic function s, as for multi-label images in
    ELEVATER (Li et al., NeurIPS 2022) and `torch.nn.MultiLabelSoftMarginLoss`. With the mean over classes, the gradient
    of a sample's logits has an L1 norm of at most 1, like each side of a cross-entropy's.

    logits (B, N'), task_of_column (N',), task (B,), tags (B, N') bool: whether the sample has each class.
    """
    own = task_of_column == task[:, None]
    masked = at_least_fp32(logits).masked_fill(~own, 0.0)  # others may be infinite
    losses = F.binary_cross_entropy_with_logits(masked, tags.to(masked.dtype), reduction="none")
    return (own * losses).sum(-1) / own.sum(-1)


def mixed_losses(
    logits: Tensor, task_of_column: Tensor, task: Tensor, tags: Tensor, tagging: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Loss of each sample (B,): `tag_cross_entropy` in tagging tasks, `multitask_cross_entropy` in other tasks.

    Arguments as there; `tags` (B, N') has the one class of the other tasks' samples, `tagging` (T,) bool.
    """
    tagged = tagging[task]
    losses = at_least_fp32(logits).new_zeros(len(task))
    losses[tagged] = tag_cross_entropy(logits[tagged], task_of_column, task[tagged], tags[tagged])
    one, target = ~tagged, tags.int().argmax(-1)
    losses[one] = label_cross_entropy(logits[one], task_of_column, task[one], target[one], smoothing)
    return losses


def present_columns(space: TaskSpace, task: Tensor) -> Tensor:
    """Columns (N',) of the tasks that occur in `task` (B,). Other logits do not affect the loss."""
    present = torch.zeros(space.num_tasks, dtype=torch.bool)
    present[task.cpu()] = True
    return present[space.task_of_column].nonzero()[:, 0]


def sampled_columns(space: TaskSpace, task: Tensor, label: Tensor, rate: float) -> Tensor:
    """Sample classes for a step: for each task in the batch, all classes that occur, plus a random share of the others.

    Of n other classes, ceil(rate * n) are drawn from torch's CPU generator. task (B,), label (B,): class within the
    task, 0 < rate <= 1. Returns sorted columns (N',).
    """
    kept = []
    column = space.column(task.cpu(), label.cpu())
    for t in task.unique().tolist():
        span = space.columns(t)
        seen = torch.zeros(span.stop - span.start, dtype=torch.bool)
        seen[column[task.cpu() == t] - span.start] = True
        others = (~seen).nonzero()[:, 0]
        seen[others[torch.randperm(len(others))[: math.ceil(rate * len(others))]]] = True
        kept.append(seen.nonzero()[:, 0] + span.start)
    return torch.cat(kept)


def cosine_logits(image_features: Tensor, text_features: Tensor, scale: Tensor) -> Tensor:
    """Compute scale * cos(image, text) in fp32 or more: (B, d), (N, d) -> (B, N)."""
    image, text = (F.normalize(at_least_fp32(part), dim=-1) for part in (image_features, text_features))
    return at_least_fp32(scale) * image @ text.t()


def class_weights(task_of_column: Tensor, task: Tensor) -> Tensor:
    """Weights (N',) of classes in a mean over classes: 1 / C for the C classes of a task, times its share of the batch.

    So a term over classes has the same weights of tasks as the cross-entropy: the loss of a batch is the mean over
    images of the loss in a batch of the image's task only. task_of_column (N',): task of each class; task (B,).
    """
    images = torch.bincount(task, minlength=int(task_of_column.max()) + 1)  # number of images per task
    classes = torch.bincount(task_of_column, minlength=len(images))
    return (images / (len(task) * classes.clamp_min(1)))[task_of_column]


def divergence(teacher: Tensor, student: Tensor, own: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(teacher || student) of each sample (B,) at temperature T, over the columns of the sample's task.

    teacher, student: logits (B, N'); own (B, N'): True on the columns of each sample's task.
    """
    log_p, log_q = (
        (logits / temperature).masked_fill(~own, float("-inf")).log_softmax(-1).masked_fill(~own, 0.0)
        for logits in (teacher, student)
    )
    return temperature**2 * (own * log_p.exp() * (log_p - log_q)).sum(-1)
