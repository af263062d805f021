"""ProtoNet on frozen CLIP features: nearest class mean (after Snell et al., "Prototypical Networks for Few-shot
Learning").

The SoftCPT paper has a row of this name without protocol or code. This version is ours: nothing is trained, and the
prototypes follow Snell et al. (eq. 1), computed from frozen features of all training images of a class. On some data it
may be well above the published row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import FittedTrainer
from .class_rows import ClassRows
from .losses import cosine_logits
from .samples import StartSamples
from .settings import declare_shared

METRICS = ("cosine", "euclidean")

declare_shared("PROTONET", PREC="fp16")
declare("TRAINER.PROTONET.METRIC", "cosine", allowed=METRICS, help="similarity of image features and prototypes")


class Prototypes(ClassRows):
    """Parameter `prototypes` (N, d): the mean feature of each class, computed without gradients."""

    def __init__(self, tower: TextTower, space: TaskSpace, metric: str = "cosine"):
        super().__init__(tower, space)
        self.metric = metric
        self.prototypes = nn.Parameter(torch.zeros(space.num_classes, tower.output_dim))

    def start(self, samples: StartSamples) -> None:
        super().start(samples)
        for position, (task, train) in enumerate(zip(self.space.tasks, samples.train, strict=True)):
            features = train.features.double()
            if self.metric == "cosine":
                features = F.normalize(features, dim=-1)
            own = F.one_hot(train.labels, len(task.classnames)).double()  # (n, C)
            means = own.t() @ features / own.sum(0).clamp_min(1)[:, None]  # (C, d)
            self.prototypes[self.space.columns(position)] = means.to(self.prototypes)

    def predict(self, features: Tensor, columns: Tensor) -> Tensor:
        prototypes = self.prototypes[columns]
        if self.metric == "cosine":
            return cosine_logits(features, prototypes, self.scale)
        # not by a matrix product, which would lose digits by cancellation
        return -torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist").square()


@TRAINER_REGISTRY.register()
class ProtoNet(FittedTrainer):
    """Predict the class of the nearest prototype; p_c is the mean of f(x) over the training images x of class c.

    `cosine`: f is the L2-normalised feature, logits are s cos(f(x), p_c) with CLIP's scale s, as for all methods.
    `euclidean`: f is the unnormalised feature, logits are -|f(x) - p_c|^2 (Snell et al., eq. 2).
    """

    section = "PROTONET"

    def load_critical_settings(self, c) -> dict[str, object]:
        return {"METRIC": c.METRIC}  # with cosine, prototypes are means of normalised features

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Prototypes:
        return Prototypes(tower, space, cfg.TRAINER.PROTONET.METRIC)
