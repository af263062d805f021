"""Weights of the tasks in the loss: given, by size, learned, or from running means of the tasks' losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dassl.config import declare, parse_yaml
from dassl.config.rules import is_number
from dassl.data.datasets.base_dataset import labels_of
from dassl.data.tasks import TaskSpace
from dassl.utils import UserError

from .rows import OwnedRows, task_owners

RULES = ("none", "images", "classes", "uncertainty", "running_mean")
MEAN_DECAY = 0.9  # of the running means, per step in which the task occurs
EXPECTED = f"expected {', '.join(RULES)}, or positive weights, e.g. {{colour: 2, shape: 0.5}}"


def read_weights(value):
    """Convert a value of LOSS.TASK_WEIGHTS from YAML or the command line: a rule, or [{task: weight}, …].

    Raises:
        TypeError: neither a rule nor weights.
    """
    if isinstance(value, str):
        if value in RULES:
            return value
        try:
            value = parse_yaml(value)
        except UserError as error:
            raise TypeError(f"{EXPECTED}; {error}") from None
    parts = value if isinstance(value, (list, tuple)) else [value]
    pairs = [pair for part in parts if isinstance(part, Mapping) for pair in part.items()]
    if (
        not pairs
        or len(pairs) < len(parts)
        or not all(is_number(weight) and 0 < weight < math.inf for _, weight in pairs)
    ):
        raise TypeError(EXPECTED)
    return [{str(task): float(weight)} for task, weight in pairs]


declare(
    "LOSS.TASK_WEIGHTS",
    "none",
    also=(list,),
    read=read_weights,
    help="weight of a label in the loss, by its task. none: 1, as published; images: every task has the same total "
    "weight; classes: 1 / log C; uncertainty: learned (Kendall et al.); running_mean: 1 / running mean of the task's "
    "loss; or {task: weight, ...}, 1 for other tasks",
)


def given_weights(rule: Sequence[Mapping[str, float]], space: TaskSpace) -> Tensor:
    """The weights (T,) of [{task key: weight}, …], 1 for other tasks. Raises UserError for an unknown task."""
    found, known = torch.ones(space.num_tasks), {task.key: t for t, task in enumerate(space.tasks)}
    for key, weight in ((key, weight) for part in rule for key, weight in part.items()):
        if key not in known:
            raise UserError(f"LOSS.TASK_WEIGHTS: no task {key!r} in this run; its tasks: {', '.join(known)}")
        found[known[key]] = weight
    return found


class TaskWeights(OwnedRows, nn.Module):
    """The weight of each task's cross-entropy.

    - images: M / (T n_t) for n_t of M training labels, so every task has the same total weight in an epoch.
    - classes: proportional to 1 / log C_t, so all tasks weigh the same where the classes are equally probable.
    - uncertainty: exp(-s_t), with s_t / 2 added to the loss; s_t = log sigma_t^2 is learned from 0 (Kendall et al.,
      "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, eq. 10).
    - running_mean: mean over the tasks of m / m_t, with the running mean m_t of the task's cross-entropy.

    The weights of images and classes have a mean of 1 over the training labels.

    Args:
        rule: one of RULES but "none", or [{task key: weight}, …].
        space: the tasks.
        train: the training items.

    Raises:
        UserError: a task that the suite does not have.
    """

    def __init__(self, rule: str | Sequence[Mapping[str, float]], space: TaskSpace, train: Sequence = ()):
        super().__init__()
        self.rule, self.space = rule if isinstance(rule, str) else "fixed", space
        count = torch.zeros(space.num_tasks)
        for item in train or ():
            for task in {task for task, _ in labels_of(item)}:  # the classes of a tagging task are one label
                count[task] += 1
        fixed = torch.ones(space.num_tasks)
        if self.rule == "images":
            fixed = count.sum() / ((count > 0).sum() * count.clamp_min(1))
        elif self.rule == "classes":
            inverse = torch.tensor([1 / math.log(max(size, 2)) for size in space.sizes])
            fixed = inverse * count.sum() / (count @ inverse) if count.sum() else inverse
        elif self.rule == "fixed":
            fixed = given_weights(rule, space)
        self.register_buffer("fixed", fixed, persistent=False)
        if self.rule == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(space.num_tasks))
        self.register_buffer("mean", torch.zeros(space.num_tasks))  # 0: the task has not occurred
        self.own(task_owners(space), "task", "loss weight", new="initial")

    def forward(self) -> Tensor:
        """The weights (T,)."""
        if self.rule == "uncertainty":
            return (-self.log_variance).exp()
        if self.rule == "running_mean":
            seen = self.mean > 0
            average = self.mean[seen].mean() if seen.any() else 1.0
            return torch.where(seen, average / self.mean.clamp_min(1e-8), 1.0)
        return self.fixed

    def penalty(self, task: Tensor) -> Tensor | float:
        """The term that keeps learned weights from vanishing, for the labels of the tasks (R,)."""
        return self.log_variance[task].mean() / 2 if self.rule == "uncertainty" else 0.0

    @torch.no_grad()
    def observe(self, losses: Tensor, task: Tensor) -> None:
        """Update the running means with the cross-entropies (R,) of a step before its loss is computed."""
        if self.rule != "running_mean":
            return
        for t in task.unique().tolist():
            new = losses[task == t].mean()
            self.mean[t] = new if self.mean[t] == 0 else MEAN_DECAY * self.mean[t] + (1 - MEAN_DECAY) * new

    def record(self) -> dict[str, float]:
        """{task key: weight}."""
        return {task.key: weight for task, weight in zip(self.space.tasks, self().tolist(), strict=True)}
