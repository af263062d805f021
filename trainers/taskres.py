"""TaskRes (Yu et al., "Task Residual for Tuning Vision-Language Models", CVPR 2023), trainer name TaskRes.

A residual per class beside the fixed text features: w_k = b_k + a x_k and logits s cos(f, w_k). b_k (d,) is the text
feature of the hand-made prompt as the text tower gives it, without normalisation, so a x_k is relative to |b_k|; with
several templates, b_k is their mean. x (N, d) is learned by cross-entropy and zero at first. A class that was not in
training has no residual and is predicted as by zero-shot CLIP.

The published code keeps the underscores of class names ("american_bulldog"), which changes the prompts: with
LEGACY_UNDERSCORES True. Its "enhanced base" needs weights that are not in the repository.
"""

from __future__ import annotations

from torch import Tensor

from clip.text_tower import TextTower
from dassl.config import above, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .text_rows import TextRows, TextRowsTrainer, declare_text_rows

declare_text_rows("TASKRES")
declare("TRAINER.TASKRES.ALPHA", 0.5, allowed=above(0), help="a, factor of the residuals")


class Residuals(TextRows):
    """Learner with the residuals x as `rows` (N, d). `alpha`: their factor a; the others see `TextRows`."""

    def __init__(self, tower: TextTower, space: TaskSpace, *, alpha: float = 0.5, **options):
        super().__init__(tower, space, **options)
        self.alpha = alpha

    def text(self, select: Tensor, added=None) -> Tensor:
        return self.base[select] + self.alpha * self.rows[select]


@TRAINER_REGISTRY.register()
class TaskRes(TextRowsTrainer):
    """Residuals of text features, one per class."""

    section = "TASKRES"

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"ALPHA": c.ALPHA, "LEGACY_UNDERSCORES": c.LEGACY_UNDERSCORES}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Residuals:
        return Residuals(tower, space, alpha=cfg.TRAINER.TASKRES.ALPHA, **cls.options(cfg, space))
