"""Rows of classes: learners with one fitted row per class, and linear classifiers trained by gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.data.tasks import Task, TaskSpace

from .learner import Learner
from .rows import OwnedRows, class_owners
from .samples import StartSamples

NEVER = -1e9  # logit of a class that is never predicted: finite, but below all others


class ClassRows(OwnedRows, Learner):
    """A learner whose parameters and buffers have one row per class. `seen` (N,): classes with training images.

    Subclasses define `predict`, and fill their rows in `start`, which first calls `super().start(samples)`.
    """

    def __init__(self, tower: TextTower, space: TaskSpace):
        super().__init__(tower, space)
        self.register_buffer("seen", torch.zeros(space.num_classes, dtype=torch.bool))
        self.own(class_owners(space), "class", "fitted row")

    def start(self, samples: StartSamples) -> None:
        for position, (task, train) in enumerate(zip(self.space.tasks, samples.train, strict=True)):
            self.seen[self.space.columns(position)] = seen_classes(task, train.labels, "which are never predicted")

    def text(self, select: Tensor, added=None) -> None:
        """Return None: image features are compared with the rows; no text is encoded."""

    def logits(self, image: Tensor, text: None, columns: Tensor, task: Tensor | None = None) -> Tensor:
        return self.predict(image.float(), columns).masked_fill(~self.seen[columns], NEVER)

    def predict(self, features: Tensor, columns: Tensor) -> Tensor:
        """Logits (B, N') of image features (B, d) over the classes in `columns` (N',)."""
        raise TypeError(f"{type(self).__name__} has no predict")


class ClassLinear(OwnedRows):
    """A linear classifier with one row per class: `weight` (N, d), `bias` (N,), as torch initialises them."""

    def __init__(self, d: int, owners: list[str]):
        super().__init__()
        drawn = nn.Linear(d, len(owners))
        self.weight, self.bias = drawn.weight, drawn.bias
        self.own(owners, "class", "row of the classifier", new="initial")


def seen_classes(task: Task, labels: Tensor, otherwise: str) -> Tensor:
    """Whether each class (C,) of a task has training images, whose labels (n,) are given; see `warn_of_missing`."""
    seen = torch.bincount(labels, minlength=len(task.classnames)) > 0
    warn_of_missing(task, seen, otherwise)
    return seen


def warn_of_missing(task: Task, seen: Tensor, otherwise: str) -> None:
    """Print the names of the classes of a task without training images; `otherwise` says what happens to them.

    seen (C,): whether a class has training images.
    """
    if missing := (~seen).nonzero()[:, 0].tolist():
        names = ", ".join(task.classnames[label] for label in missing[:5]) + (", ..." if missing[5:] else "")
        print(f"WARNING: task {task.id} ({task.name}) has classes without training images, {otherwise}: {names}")
