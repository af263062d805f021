"""TCP (Yao et al., CVPR 2024): tokens generated from frozen text features replace the context in a late layer."""

import torch.nn.functional as F
from torch import nn

from clip.additions import Additions, Tokens
from dassl.config import at_least, declare
from dassl.engine import TRAINER_REGISTRY
from trainers.contexts import ContextLearner, ContextTrainer
from trainers.settings import declare_shared

declare_shared("CLASSTOKENS", PREC="fp32", N_CTX=4, CTX_INIT="", TSC=False)
declare("TRAINER.CLASSTOKENS.W", 8.0, allowed=at_least(0), help="weight of the distance to the hand-made features")


class ClassTokens(ContextLearner):
    def __init__(self, tower, space, n_ctx=4, **options):
        super().__init__(tower, space, n_ctx=n_ctx, **options)
        d = tower.output_dim
        self.net = nn.Sequential(nn.Linear(d, d // 4), nn.SiLU(), nn.Linear(d // 4, n_ctx * tower.width))
        self.n_ctx, self.layer = n_ctx, len(tower.blocks) * 2 // 3

    def text(self, select, added=None):
        tokens = self.net(self.hand_features()[select]).view(len(select), 1, self.n_ctx, -1)  # a set per class
        return self.tower(self.prompt_learner(select), Additions(Tokens(tokens, [self.layer])))


@TRAINER_REGISTRY.register()
class WrittenClassTokens(ContextTrainer):
    section = "CLASSTOKENS"
    learner = ClassTokens
    position = ""

    def loss(self, step):
        hand = self.model.hand_features()[step.columns]
        apart = 1 - F.cosine_similarity(step.text.float(), hand, dim=-1).mean()
        return super().loss(step) + self.cfg.TRAINER.CLASSTOKENS.W * apart, {"apart": apart.item()}
