"""DePT (Zhang et al., "DePT: Decoupled Prompt Tuning", CVPR 2024), trainer name DePT.

A linear classifier beside another method, TRAINER.DEPT.BASE, on its features before normalisation, each passed through
a channel-wise map a * x + b. Loss: (1 - LINEAR_WEIGHT) CE(z) + LINEAR_WEIGHT CE(z_l), plus the other terms of the base
method. z are the base method's logits; z_l those of the classifier for image features and for their classes' text
features. Classes of training are predicted by (1 - LINEAR_WEIGHT) z + LINEAR_WEIGHT z_l, new classes by z. The settings
of the base method are read from its own section.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import between, declare, one_of
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY
from dassl.runs.compare import refuse_other_model
from dassl.utils import UserError

from .base import FittedTrainer, MultiTaskTrainer, Step
from .class_rows import ClassLinear
from .learner import Learner, WrappedLearner
from .rows import OwnedRows, class_owners, task_owners
from .settings import declare_shared

KEY = "TRAINER.DEPT."
declare_shared("DEPT", PREC="fp16", TSC=False)
declare(
    KEY + "BASE", "CoOp", allowed=one_of(TRAINER_REGISTRY.registered_names), help="the method beside the classifier"
)
declare(KEY + "LINEAR_WEIGHT", 0.7, allowed=between(0, 1), help="share of the classifier in loss and prediction")
declare(KEY + "LR_SCALE", 6.5, allowed=between(0, 1e6), help="factor on OPTIM.LR for the classifier and its maps")


class ChannelMap(OwnedRows):
    """x -> scale * x + bias, one for all tasks or one per task: `scale`, `bias` (G, d)."""

    def __init__(self, d: int, owners: list[str] | None):
        super().__init__()
        self.scale, self.bias = (nn.Parameter(torch.full((len(owners or "x"), d), value)) for value in (1.0, 0.0))
        self.own(owners, "task", "channel-wise map")


class Decoupled(WrappedLearner):
    """The learner `base` of another method, and the classifier with its maps of image and text features."""

    fuses = True  # False in training steps, whose loss adds the classifier itself

    def __init__(self, base: Learner, share: float, lr_scale: float, per_task: bool):
        super().__init__(base)
        owners, d = task_owners(base.space) if per_task else None, base.tower.output_dim
        self.share, self.lr_scale = share, lr_scale
        self.film_image, self.film_text = ChannelMap(d, owners), ChannelMap(d, owners)
        self.head = ClassLinear(d, class_owners(base.space))

    def linear(self, features: Tensor, film: ChannelMap, columns: Tensor) -> Tensor:
        """Logits z_l (B, N') of features (B, d). The map of a class's task is applied to the class's row."""
        weight, bias = self.head.weight[columns], self.head.bias[columns]
        task = self.task_of_column[columns] if len(film.scale) > 1 else torch.zeros_like(columns)
        return features.float() @ (film.scale[task] * weight).t() + (film.bias[task] * weight).sum(-1) + bias

    def logits(self, image, text, columns, task=None):
        z = super().logits(image, text, columns, task)
        if not self.fuses:
            return z
        fused = (1 - self.share) * z + self.share * self.linear(image, self.film_image, columns)
        return torch.where(self.known[columns], fused, z)

    def parameter_groups(self) -> list[dict]:
        parts = (self.film_image, self.film_text, self.head)
        own = [parameter for part in parts for parameter in part.parameters()]
        return [*super().parameter_groups(), {"params": own, "lr_scale": self.lr_scale}]


@TRAINER_REGISTRY.register()
class DePT(MultiTaskTrainer):
    """A linear classifier beside another method; `chosen` adds it to the trainer of that method."""

    section = "DEPT"
    tags = False  # a row of its linear classifier is trained as one class

    @classmethod
    def chosen(cls, cfg) -> type[DePT]:
        """The trainer for cfg.TRAINER.DEPT.BASE."""
        base = TRAINER_REGISTRY.get(cfg.TRAINER.DEPT.BASE)
        trains = issubclass(base, MultiTaskTrainer) and base.learns and not issubclass(base, FittedTrainer)
        if not trains or issubclass(base, DePT):
            raise UserError(f"{KEY}BASE {cfg.TRAINER.DEPT.BASE}: expected a method trained by gradients, such as CoOp")
        return type(cls.__name__, (cls, base), {"section": base.section, "__module__": cls.__module__})

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Decoupled:
        c, base = cfg.TRAINER.DEPT, super().build_learner(cfg, tower, space)
        if (image := base.additions().image) is not None and (image.local or (image.tokens and image.tokens.keep)):
            raise UserError(f"{KEY}BASE {c.BASE}: the classifier needs one feature per image")
        return Decoupled(base, c.LINEAR_WEIGHT, c.LR_SCALE, c.TSC)

    def load_model(self, directory, epoch=None) -> None:
        if directory:  # the base method checks its own section, and the CLIP
            refuse_other_model(
                directory, self.cfg, "DEPT", "", lambda c: {key: c[key] for key in ("BASE", "LINEAR_WEIGHT")}
            )
        super().load_model(directory, epoch)

    def step(self, batch: dict) -> Step:
        self.model.fuses = False
        try:
            return super().step(batch)
        finally:
            self.model.fuses = True

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        found, share, model = super().loss(step), self.cfg.TRAINER.DEPT.LINEAR_WEIGHT, self.model
        total, numbers = found if isinstance(found, tuple) else (found, {})
        if step.text is None:  # CoCoOp: text features depend on the image
            rows = torch.arange(len(step.target), device=step.target.device)
            own = model.base.pairs(step.image, rows, step.columns[step.target])
        else:
            own = step.text[step.target]
        parts = (own, model.film_text), (step.image, model.film_image)
        logits = torch.cat([model.linear(features, film, step.columns) for features, film in parts])
        linear = self.classification_loss(logits, step.columns, step.task.repeat(2), step.target.repeat(2))
        similar = self.classification_loss(step.logits, step.columns, step.task, step.target)
        return total + share * (linear - similar), {**numbers, "linear": linear.item()}
