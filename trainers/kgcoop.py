"""KgCoOp (Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023), trainer
name KgCoOp.

CoOp with a penalty that keeps text features near the features of hand-made prompts, which generalise to new classes.
The loss follows the published code: CE + W (1 - mean_c cos(w_c, w_c^hand)). The paper (section 3.2) writes squared
distances, which are twice this penalty for normalised features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.config import at_least, declare
from dassl.engine import TRAINER_REGISTRY

from .base import Step
from .contexts import ContextTrainer
from .settings import declare_shared

KEY = "TRAINER.KGCOOP."
declare_shared("KGCOOP", PREC="fp16", N_CTX=4, CTX_INIT="a photo of a", TSC=False)
declare(KEY + "W", 8.0, allowed=at_least(0), help="weight of the distance to the hand-made prompts' features")


def guidance(text: Tensor, hand: Tensor, task_of_column: Tensor, task: Tensor) -> Tensor:
    """Sum over tasks of the task's share of the batch times the mean over its classes of 1 - cos(w_c, w_c^hand).

    The weights of the tasks are the same as in the cross-entropy. For a batch of one task this is the published
    penalty. For several tasks, the loss is the mean over images of the loss in a batch of the image's task only.

    Args:
        text, hand: (N', d) text features, and features of hand-made prompts.
        task_of_column: (N',) task of each class.
        task: (B,) task of each image.

    Returns:
        A scalar.
    """
    apart = 1 - F.cosine_similarity(text.float(), hand.float(), dim=-1)  # (N',)
    images = torch.bincount(task, minlength=int(task_of_column.max()) + 1)  # number of images per task
    classes = torch.bincount(task_of_column, minlength=len(images))
    weight = images / (len(task) * classes.clamp_min(1))
    return (weight[task_of_column] * apart).sum()


@TRAINER_REGISTRY.register()
class KgCoOp(ContextTrainer):
    """CoOp kept near hand-made prompts (the first template of each task)."""

    section = "KGCOOP"
    position = ""

    def loss(self, step: Step) -> Tensor:
        hand = self.model.hand_features()[step.columns]
        distance = guidance(step.text, hand, self.task_of_column[step.columns], step.task)
        return super().loss(step) + self.cfg.TRAINER.KGCOOP.W * distance
