"""CLAP and ZS-LP (Silva-Rodríguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models",
CVPR 2024), trainer name CLAP; the name ZSLP means CONSTRAINT none.

A linear probe that starts at the text features: logits s cos(f, w_k), where w_k (d,) begins as b_k, the text feature of
the hand-made prompts as the text tower gives it, without normalisation. ZS-LP learns w (N, d) by cross-entropy. CLAP
adds (1/K) sum_k a_k |w_k - b_k|^2 over the K classes of the task. a_k is fixed before training: the mean zero-shot
probability of the right class over all views of the class's training images, so that texts that describe their images
well are kept. A class that was not in training keeps its text feature: it is predicted as by zero-shot CLIP.

CONSTRAINT has the variants of the published code. With `adaptative`, after each epoch a_k <- max(0, a_k + r_k h_k) and
then r_k <- h_k = |w_k - b_k|^2; r_k is 0 at first. Different from the published code: an epoch takes every image once,
in one of DATALOADER.VIEWS views, where the published epoch draws as many samples from the pool of all views. A class
without training images has the mean a_k of its task, where the published code divides by 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import Step
from .class_rows import warn_of_missing
from .losses import cosine_logits
from .samples import StartSamples
from .text_rows import TextRows, TextRowsTrainer, declare_text_rows

CONSTRAINTS = ("l2", "constant", "balanced", "corrected", "adaptative", "none")

declare_text_rows("CLAP")
declare(
    "TRAINER.CLAP.CONSTRAINT",
    "l2",
    allowed=CONSTRAINTS,
    help="multipliers of the squared distances to the text features: fixed per class (l2), one for all classes of a "
    "task (constant), 1 (balanced), scaled to mean 1 (corrected), growing (adaptative); none: no distances (ZS-LP)",
)


class ConstrainedRows(TextRows):
    """Learner with the weights w as `rows` (N, d). Buffers: `multiplier` a (N,) and `growth` r (N,).

    Args:
        tower, space, options: as for `TextRows`.
        constraint: one of CONSTRAINTS.
        views: number of views of the training images that decide a.
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, constraint: str = "l2", views: int = 20, **options):
        super().__init__(tower, space, **options)
        self.constraint, self.views = constraint, views
        self.rows.data.copy_(self.base)
        for name, value in (("multiplier", 1.0), ("growth", 0.0)):
            self.register_buffer(name, torch.full((space.num_classes,), value, device=tower.device))
        self.own(self.owners, "class", "row", tensors=("rows", "multiplier", "growth"), new="initial")

    def text(self, select: Tensor, added=None) -> Tensor:
        return self.rows[select]

    def start(self, samples: StartSamples) -> None:
        """Set a from the zero-shot probabilities of the right classes in all views."""
        if self.constraint in ("balanced", "none"):
            return
        total, images = torch.zeros(2, self.space.num_classes, device=self.rows.device)
        for view in samples.views(self.views):
            for position, (features, labels) in enumerate(view):
                own, labels = self.space.columns(position), labels.to(total.device)
                logits = cosine_logits(features.to(total.device), self.base[own], self.scale)  # (n, C)
                total[own].index_add_(0, labels, logits.softmax(-1).gather(1, labels[:, None])[:, 0])
                images[own] += torch.bincount(labels, minlength=logits.shape[1])
        for position, task in enumerate(self.space.tasks):
            own = self.space.columns(position)
            seen = images[own] > 0
            warn_of_missing(task, seen, "whose constraint is the mean of the others")
            if seen.any():
                self.multiplier[own] = self.multipliers(total[own] / images[own].clamp_min(1), seen)

    def multipliers(self, probability: Tensor, seen: Tensor) -> Tensor:
        """a (C,) of the classes of a task from their mean probabilities (C,); seen (C,): classes with images."""
        mean = probability[seen].mean()
        found = torch.where(seen, probability, mean)
        if self.constraint == "corrected":
            return found / mean
        return mean.expand_as(found) if self.constraint == "constant" else found

    def distances(self, select: Tensor) -> Tensor:
        """Squared distances (N',) of the weights of the classes `select` (N',) from their text features."""
        return (self.rows[select] - self.base[select]).square().sum(-1)

    @torch.no_grad()
    def tighten(self) -> None:
        """The step of the adaptative multipliers after an epoch."""
        distance = self.distances(torch.arange(len(self.rows), device=self.rows.device))
        self.multiplier.copy_((self.multiplier + self.growth * distance).clamp_min(0))
        self.growth.copy_(distance)


@TRAINER_REGISTRY.register()
class CLAP(TextRowsTrainer):
    """A linear probe from text features, kept near them as far as they suit the training images."""

    section = "CLAP"
    tags = False  # its constraint is computed from one class per image

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> ConstrainedRows:
        views = cfg.DATALOADER.VIEWS or 20
        return ConstrainedRows(
            tower, space, constraint=cfg.TRAINER.CLAP.CONSTRAINT, views=views, **cls.options(cfg, space)
        )

    def loss(self, step: Step) -> Tensor | tuple[Tensor, dict[str, float]]:
        found = super().loss(step)
        if self.model.constraint == "none":
            return found
        penalty = self.class_mean(self.model.multiplier[step.columns] * self.model.distances(step.columns), step)
        return found + penalty, {"penalty": penalty.item()}

    def run_epoch(self) -> None:
        super().run_epoch()
        if self.model.constraint == "adaptative":
            self.model.tighten()
