"""The values of one training step, and the rows of a batch: one per label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor


@dataclass
class Step:
    """The values of one training step, which `loss` reads.

    A batch of B images has one row per label. R, the number of labels, is B if every image has one label. An image with
    labels of several tasks passes the image tower once, and its features are repeated in the rows of its labels.

    Attributes:
        columns: (N',) the classes of the step, sorted.
        task: (R,) task of each label.
        target: (R,) position of each label's class in `columns`. If a task of the run is a tagging task, (R, N') bool:
            whether the image has each class. An image has one row in a tagging task, and one class in other tasks.
        image: (R, d) image features after the learner's `image`.
        text: (N', d) text features.
        logits: (R, N').
        numbers: {name: number} to log and to print beside loss and accuracy.
        more_views: further views (B, 3, H, W) of the images, for a method with `views` > 1.
        rows: (R,) position of each label's image in the batch; None if every image has one label.
        frozen: (R, d) features of the frozen image tower for the same views; computed at the first access.
    """

    columns: Tensor
    task: Tensor
    target: Tensor
    image: Tensor
    text: Tensor | None
    logits: Tensor
    numbers: dict[str, float]
    more_views: list[Tensor]
    rows: Tensor | None
    _frozen: Callable[[], Tensor] = field(repr=False)

    @cached_property
    def frozen(self) -> Tensor:
        return self.per_label(self._frozen())

    def per_label(self, values: Tensor) -> Tensor:
        """Values (R, …) of the labels, from values (B, …) of the images."""
        return spread(values, self.rows)


def first_view(batch: dict) -> tuple[dict, list[Tensor]]:
    """The batch with the first view of each image only, and the other views."""
    images = batch.get("img")
    if not isinstance(images, (list, tuple)):
        return batch, []
    return {**batch, "img": images[0]}, list(images[1:])


def spread(values, rows: Tensor | None):
    """Values (R, …) of the labels at positions `rows` (R,) of a batch, from values (B, …) of its images.

    `values` may be a tuple of tensors. Returns `values` unchanged if `rows` is None.
    """
    if rows is None:
        return values
    return tuple(spread(part, rows) for part in values) if isinstance(values, tuple) else values[rows]


def with_numbers(found) -> tuple[Tensor, dict[str, float]]:
    """Return (value, {name: number to log}) for a hook that returned the value only, or both."""
    value, numbers = found if isinstance(found, tuple) else (found, None)
    return value, numbers or {}
