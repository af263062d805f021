"""Last projections of the image tower, learned from stored views of unprojected features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.data.tasks import Task
from dassl.engine.progress import progress

from .choices import scores
from .losses import cosine_logits
from .rows import OwnedRows
from .samples import Samples


class Projections(OwnedRows):
    """`weight` (G, W, d): one projection for all tasks, or one for each of `owners`."""

    def __init__(self, initial: Tensor, owners: list[str] | None):
        super().__init__()
        self.weight = nn.Parameter(initial.repeat(len(owners or "x"), 1, 1))
        self.own(owners, "task", "projection")


def project(features: Tensor, projection: Tensor, bias: Tensor | None) -> Tensor:
    """Features (…, B, d) in fp32 of unprojected ones (B, W) under projections (…, W, d) and a bias (d,)."""
    found = features.float() @ projection
    return found if bias is None else found + bias


class ProjectionDescent:
    """Adam on cross-entropy + lambda |M - M0|^2, full-batch, with a cosine schedule to 0; step i is on view i + 1.

    Args:
        initial, bias: M0 (W, d), and the bias (d,) or None.
        texts: text features (C, d) of the classes of each task.
        scale: scale of the cosines.
        steps: number of steps.
        options: further options of torch.optim.Adam.
    """

    def __init__(self, initial: Tensor, bias: Tensor | None, texts: list[Tensor], scale: Tensor, steps: int, **options):
        self.initial, self.bias, self.texts, self.scale = initial, bias, texts, scale
        self.steps, self.options = steps, options

    def steps_of(
        self, views: Sequence[list[Samples]], groups: Sequence[list[int]], lr: float, weights: list[Sequence[float]]
    ) -> Iterator[tuple[list[Tensor], list[nn.Parameter]]]:
        """Train projections (S, W, d) for each group of tasks, with S values of lambda in `weights` of the group.

        Yields after every step the losses (S,) before it, and the projections after it, of each group.
        """
        found = [nn.Parameter(self.initial.repeat(len(own), 1, 1)) for own in weights]
        weights = [torch.tensor(own, device=self.initial.device) for own in weights]
        optimiser = torch.optim.Adam(found, lr, **self.options)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        for step in range(self.steps):
            if not step or len(views) > 1:  # reading a view takes a good part of a step
                view = views[(step + 1) % len(views)]
            losses = []
            optimiser.zero_grad()
            for projection, group, weight in zip(found, groups, weights, strict=True):
                with torch.enable_grad():
                    distance = (projection - self.initial).square().sum((1, 2))
                    loss = self.cross_entropy(projection, view, group) + weight * distance
                    loss.sum().backward()
                losses.append(loss.detach())
            optimiser.step()
            schedule.step()
            yield losses, found

    def __call__(self, views, groups, lr, weights, what: str) -> list[Tensor]:
        """The projections (S, W, d) of each group after the last step; the arguments are those of `steps_of`."""
        found = []
        for _, found in progress(self.steps_of(views, groups, lr, weights), what):  # noqa: B007  the last is kept
            pass
        return [projection.detach() for projection in found]

    def cross_entropy(self, projection: Tensor, view: list[Samples], group: list[int]) -> Tensor:
        """Mean over the images of a group's tasks (S,), each among the classes of its task."""
        total = torch.zeros(len(projection), device=projection.device)
        for t in group:
            labels = view[t].labels.to(projection.device)
            logits = self.logits(projection, t, view[t].features)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
            total = total + loss.view(len(logits), -1).sum(1)
        return total / max(sum(len(view[t].labels) for t in group), 1)

    def logits(self, projection: Tensor, task: int, features: Tensor) -> Tensor:
        """Logits (S, n, C) of a task's unprojected features (n, W) under projections (S, W, d)."""
        image = project(features.to(projection.device), projection, self.bias)
        return cosine_logits(image, self.texts[task], self.scale)

    def score(self, projection: Tensor, position: int, task: Task, own: Samples) -> Tensor:
        """Scores (S,) of the projections (S, W, d) on images of the task at `position`, by its metric."""
        return scores(self.logits(projection, position, own.features).argmax(-1).cpu(), own.labels, task)
