"""KgCoOp (Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023), trainer
name KgCoOp.

CoOp with a penalty that keeps text features near the features of hand-made prompts, which generalise to new classes.
The loss follows the published code: CE + W (1 - mean_c cos(w_c, w_c^hand)). The paper (section 3.2) writes squared
distances, which are twice this penalty for normalised features.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dassl.config import at_least, declare
from dassl.engine import TRAINER_REGISTRY

from .base import Step
from .contexts import ContextTrainer
from .settings import declare_shared

KEY = "TRAINER.KGCOOP."
declare_shared("KGCOOP", PREC="fp16", N_CTX=4, CTX_INIT="a photo of a", TEMPLATES="", TSC=False)
declare(KEY + "W", 8.0, allowed=at_least(0), help="weight of the distance to the hand-made prompts' features")


@TRAINER_REGISTRY.register()
class KgCoOp(ContextTrainer):
    """CoOp kept near hand-made prompts (TEMPLATES)."""

    section = "KGCOOP"
    position = ""

    def loss(self, step: Step) -> Tensor:
        hand = self.model.hand_features()[step.columns]
        distance = self.class_mean(1 - F.cosine_similarity(step.text.float(), hand.float(), dim=-1), step)
        return super().loss(step) + self.cfg.TRAINER.KGCOOP.W * distance
