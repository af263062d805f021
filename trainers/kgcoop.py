"""KgCoOp (Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023), trainer
name KgCoOp.

CoOp whose text features are kept near those of hand-made prompts, which generalise to new classes. The loss is that of
the published code, CE + W (1 - mean_c cos(w_c, w_c^hand)). The paper (section 3.2) writes squared distances, which for
normalised features are twice that.
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

    The tasks are weighted as in the cross-entropy: a batch of one task has the published term, and the loss of a batch
    of several tasks is the mean over its images of the loss each image would have in a batch of its own task.

    Args:
        text, hand: (N', d) text features, and features of hand-made prompts.
        task_of_column: (N',).
        task: (B,).

    Returns:
        a scalar.
    """
    apart = 1 - F.cosine_similarity(text.float(), hand.float(), dim=-1)  # (N',)
    images = torch.bincount(task, minlength=int(task_of_column.max()) + 1)  # of each task
    classes = torch.bincount(task_of_column, minlength=len(images))
    weight = images / (len(task) * classes.clamp_min(1))
    return (weight[task_of_column] * apart).sum()


@TRAINER_REGISTRY.register()
class KgCoOp(ContextTrainer):
    """CoOp near the hand-made prompts: the first template of each task."""

    section = "KGCOOP"
    position = ""

    def loss(self, step: Step) -> Tensor:
        hand = self.model.hand_features()[step.columns]
        distance = guidance(step.text, hand, self.task_of_column[step.columns], step.task)
        return super().loss(step) + self.cfg.TRAINER.KGCOOP.W * distance
