"""CLIP-Adapter (Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", IJCV 2024; arXiv
2110.04544): a bottleneck on image features.

    x' = r A(x) + (1 - r) x,   A(x) = ReLU(W2 ReLU(W1 x)),   logits = s cos(x', t_k)

x (B, d) is the feature of the frozen image tower, not normalised; W1 (d/4, d) and W2 (d, d/4) have no biases; r = 0.2;
t_k (d,) is the text feature of the hand-made prompt of class k. Normalisation comes after the mixture. The matrices
start as torch's Linear, so training does not start at zero-shot CLIP. The last ReLU makes A(x) non-negative.

Text features are computed once; the published code recomputes them at every step. The published settings of the
optimiser and the ratios by data set are not public.
"""

from __future__ import annotations

from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .learner import Learner
from .rows import TaskModules, apply_by_task, task_owners
from .settings import declare_shared

KEY = "TRAINER.CLIPADAPTER."
declare_shared("CLIPADAPTER", PREC="fp16", TEMPLATES="", TSC=False)
declare(KEY + "RATIO", 0.2, allowed=between(0, 1), help="r, share of the adapted features")
declare(KEY + "REDUCTION", 4, allowed=between(1, 64), help="width of the features divided by that of the bottleneck")


class Bottleneck(nn.Module):
    """A(x) = ReLU(W2 ReLU(W1 x)): (B, d) -> (B, d)."""

    def __init__(self, d: int, reduction: int):
        super().__init__()
        width = max(d // reduction, 1)
        self.down, self.up = nn.Linear(d, width, bias=False), nn.Linear(width, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x).relu()).relu()


class FeatureAdapter(Learner):
    """One bottleneck for all tasks, or one per task.

    Args:
        tower, space: as for every learner.
        ratio: r.
        reduction: d divided by the width of the bottleneck.
        per_task: one bottleneck per task.
    """

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        *,
        ratio: float = 0.2,
        reduction: int = 4,
        per_task: bool = False,
    ):
        super().__init__(tower, space)
        self.ratio, self.by_task = ratio, per_task
        owners = task_owners(space) if per_task else None
        self.adapters = TaskModules(lambda: Bottleneck(tower.output_dim, reduction), owners, "adapter")

    def image(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        x = features.float()
        return self.ratio * apply_by_task(x, task, self.adapters).float() + (1 - self.ratio) * x


@TRAINER_REGISTRY.register()
class CLIPAdapter(MultiTaskTrainer):
    """A bottleneck on image features, which depends on no class, so it serves new classes."""

    section = "CLIPADAPTER"

    def problems(self, cfg) -> list[str]:
        c = cfg.TRAINER.CLIPADAPTER
        return [] if c.RATIO else [f"{KEY}RATIO 0 learns nothing: expected a number above 0, as published 0.2"]

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"RATIO": c.RATIO}

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> FeatureAdapter:
        c = cfg.TRAINER.CLIPADAPTER
        return FeatureAdapter(tower, space, ratio=c.RATIO, reduction=c.REDUCTION, per_task=c.TSC)
