"""Settings that a method chooses by itself, per task, on validation images; or as published, on test images.

Several published methods choose settings (alpha, beta, the epoch, a learning rate) by their accuracy on test images.
Here they are chosen on the validation images, min(shots, 4) per class. `CHOSEN_ON test` reproduces what was published;
results.json and all tables mark such a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dassl.data.tasks import Task, TaskSpace
from dassl.metrics import METRICS
from dassl.utils import UserError

from .rows import OwnedRows, task_owners
from .samples import Samples, StartSamples

SPLITS = ("", "val", "test")  # what chose the settings of a task; "": nothing, they are the given ones


class Choices(OwnedRows, nn.Module):
    """One value per task of each setting that is chosen, and the split whose images chose it.

    Buffers `<name>` (T,) and `split` (T,), the position in SPLITS. New tasks have the initial values.

    Args:
        space: the tasks.
        initial: initial value of each setting.
    """

    def __init__(self, space: TaskSpace, **initial: float):
        super().__init__()
        self.space, self.names = space, tuple(initial)
        for name, value in initial.items():
            self.register_buffer(name, torch.full((space.num_tasks,), float(value), dtype=torch.double))
        self.register_buffer("split", torch.zeros(space.num_tasks, dtype=torch.uint8))
        self.own(task_owners(space), "task", "chosen setting", new="initial")

    def choose(self, position: int, split: str, score: float | None = None, **values: float) -> None:
        """Set the values of the task at `position`, chosen on `split`; "" for given values. Print them with a `score`.

        score: what the values reach on `split`, in per cent, by `choice_metric`.
        """
        for name, value in values.items():
            getattr(self, name)[position] = value
        self.split[position] = SPLITS.index(split)
        if score is not None:
            task, chosen = self.space.tasks[position], ", ".join(f"{name} {value:g}" for name, value in values.items())
            print(f"task {task.id} ({task.name}): {chosen}, {split} {choice_metric(task)} {score:.2f}%")

    def record(self) -> dict[str, dict[str, float | str]]:
        """{key of a task: {setting: value, "chosen_on": split}} of the tasks whose settings were chosen."""
        return {
            task.key: {**{name: getattr(self, name)[t].item() for name in self.names}, "chosen_on": SPLITS[split]}
            for t, (task, split) in enumerate(zip(self.space.tasks, self.split.tolist(), strict=True))
            if split
        }


def samples_to_choose(samples: StartSamples, split: str, space: TaskSpace, fixed: str) -> list[Samples]:
    """The images of `split` ("val" or "test") that choose settings: one `Samples` per task.

    Raises UserError for a task without such images; `fixed` says in the message which settings to give instead.
    """
    found = getattr(samples, split)
    for task, own in zip(space.tasks, found, strict=True):
        if not len(own.labels):
            name = "validation" if split == "val" else split
            raise UserError(
                f"Task {task.id} ({task.name}) has no {name} images, which choose the settings of this method. "
                f"To give them instead: {fixed}"
            )
    return found


def choice_metric(task: Task) -> str:
    """The metric that chooses settings: that of the task, or overall_acc if that needs more than predicted classes."""
    return task.metric if METRICS.get(task.metric).needs == "predictions" else "overall_acc"


def scores(predicted: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Score (G,) in per cent of G lists of predictions (G, n) for the labels (n,), by `choice_metric`."""
    right, name = (predicted == labels).double(), choice_metric(task)
    if name == "overall_acc":
        return 100 * right.mean(1)
    if name == "mean_acc":
        share = 1 / torch.bincount(labels)[labels].double()
        return (100 * (right * share).sum(1) / share.sum()).round(decimals=9)  # sums of equal terms are equal
    metric = METRICS.get(name)
    return torch.tensor([float(metric(row.numpy(), labels.numpy())) for row in predicted])


def first_best(values: Tensor | Sequence[float]) -> int:
    """Position of the first of the largest values."""
    values = torch.as_tensor(values)
    return int((values == values.max()).nonzero()[0])
