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

from clip.text_tower import TextTower
from dassl.config import at_least, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import PRECISION_HELP, PRECISIONS
from .losses import cosine_logits
from .mtcoop_hard import HardSharedPrompts, MTCoOpHard
from .zsclip import HandPrompts

KEY = "TRAINER.KGCOOP."
declare(KEY + "PREC", "fp16", allowed=PRECISIONS, help=PRECISION_HELP)
declare(KEY + "N_CTX", 4, allowed=at_least(1), help="L, context tokens")
declare(
    KEY + "CTX_INIT",
    "a photo of a",
    help="initial words of the context, of N_CTX tokens; '': drawn from N(0, 0.02)",
)
declare(KEY + "W", 8.0, allowed=at_least(0), help="weight of the distance to the hand-made prompts' features")
declare(KEY + "TSC", False, help="a context of its own for every task of a suite")


class GuidedPrompts(HardSharedPrompts):
    """Learned contexts, and the fixed features of each class in its task's hand-made template."""

    def __init__(self, tower: TextTower, space: TaskSpace, **settings):
        super().__init__(tower, space, **settings)
        self.hand = HandPrompts(tower, space, [task.templates[:1] for task in space.tasks])


def guidance(text: Tensor, hand: Tensor, task_of_column: Tensor, task: Tensor) -> Tensor:
    """Sum over tasks of their share of the batch times the mean over their classes of 1 - cos(w_c, w_c^hand).

    Text features (N', d), hand-made prompts' features (N', d), task_of_column (N',), task (B,); a scalar. Weighted like
    the cross-entropies: a batch of one task has the published term, and the loss of a batch of several is the mean over
    its images of what each would have in a batch of its own task.
    """
    apart = 1 - F.cosine_similarity(text.float(), hand.float(), dim=-1)  # (N',)
    images = torch.bincount(task, minlength=int(task_of_column.max()) + 1)  # of each task
    classes = torch.bincount(task_of_column, minlength=len(images))
    weight = images / (len(task) * classes.clamp_min(1))
    return (weight[task_of_column] * apart).sum()


@TRAINER_REGISTRY.register()
class KgCoOp(MTCoOpHard):
    """CoOp near the hand-made prompts."""

    section = "KGCOOP"
    prompts = GuidedPrompts
    position = ""
    words_set_length = False

    def step(self, features: Tensor, columns: Tensor, task: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            text = self.model(columns)  # (N', d)
        logits = cosine_logits(features, text, self.scale)
        distance = guidance(text, self.model.hand(columns), self.task_of_column[columns], task)
        return self.loss(logits, columns, task, target) + self.cfg.TRAINER.KGCOOP.W * distance, logits
