"""ProtoNet on frozen CLIP features: nearest class mean (after Snell et al., "Prototypical Networks for Few-shot
Learning").

The SoftCPT paper has a row of this name without protocol or code. This one is ours: nothing is trained, the prototypes
are those of the paper (eq. 1) on the features of the frozen image tower, over all training images of a class. On some
data it may be well above the published row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import PRECISION_HELP, PRECISIONS
from .fitted import ClassRows, FittedTrainer, Samples
from .losses import cosine_logits

METRICS = ("cosine", "euclidean")

declare("TRAINER.PROTONET.PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare("TRAINER.PROTONET.METRIC", "cosine", allowed=METRICS, help="nearness of image feature and prototype")


class Prototypes(ClassRows):
    """Parameter `prototypes` (N, d): the mean feature of each class. It is fitted, no gradient is taken."""

    rows_are = "the prototypes"

    def __init__(self, space: TaskSpace, width: int):
        super().__init__(space)
        self.prototypes = nn.Parameter(torch.zeros(space.num_classes, width))


@TRAINER_REGISTRY.register()
class ProtoNet(FittedTrainer):
    """Prototype p_c = mean of f(x) over the training images x of class c; the class of the nearest one is predicted.

    `cosine`: f is the L2-normalised feature, logits are s cos(f(x), p_c) with CLIP's own scale s, as for all methods.
    `euclidean`: f is the feature as the tower gives it, logits are -|f(x) - p_c|^2 (Snell et al., eq. 2).
    """

    section = "PROTONET"

    def meaning(self, c) -> dict[str, object]:
        return {"METRIC": c.METRIC}  # prototypes of cosine are means of normalised features

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> Prototypes:
        return Prototypes(space, tower.output_dim)

    def fit(self, position: int, task: Task, train: Samples, val: Samples) -> None:
        features = train.features.double()
        if self.cfg.TRAINER.PROTONET.METRIC == "cosine":
            features = F.normalize(features, dim=-1)
        own = F.one_hot(train.labels, len(task.classnames)).double()  # (n, C)
        means = own.t() @ features / own.sum(0).clamp_min(1)[:, None]  # (C, d)
        self.model.prototypes[self.space.columns(position)] = means.float().to(self.device)

    def logits(self, features: Tensor) -> Tensor:
        prototypes = self.model.prototypes
        if self.cfg.TRAINER.PROTONET.METRIC == "cosine":
            return cosine_logits(features, prototypes, self.scale)
        # without the matrix product, whose cancellation costs digits
        return -torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist").square()
