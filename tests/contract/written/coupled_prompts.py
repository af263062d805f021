"""MaPLe (Khattak et al., CVPR 2023): deep text prompts, and linear maps from them to image prompts."""

import torch
from torch import nn

from clip.additions import Additions, Tokens, TowerAdditions
from clip.image_tower import ImageTower
from dassl.config import at_least, declare
from dassl.engine import TRAINER_REGISTRY
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner
from trainers.prompts import NameTokens
from trainers.settings import declare_shared

declare_shared("COUPLED", PREC="fp32", N_CTX=2)
declare("TRAINER.COUPLED.DEPTH", 3, allowed=at_least(1), help="layers of each tower that get prompts")


class CoupledPrompts(Learner):
    def __init__(self, tower, space, n_ctx, depth):
        super().__init__(tower, space)
        width = ImageTower(tower.clip).require_prompts()[1]
        self.ctx = nn.Parameter(torch.empty(depth, n_ctx, tower.width).normal_(std=0.02))  # (J, n, D)
        self.maps = nn.ModuleList(nn.Linear(tower.width, width) for _ in range(depth))
        self.names = NameTokens(tower, space.classnames)

    def additions(self):
        visual = torch.stack([to_image(prompt) for to_image, prompt in zip(self.maps, self.ctx, strict=True)])
        deep = Tokens(self.ctx[None, 1:], range(1, len(self.ctx)))
        return TowerAdditions(Additions(deep), Additions(Tokens(visual[None], normed=True)))

    def text(self, select, added=None):
        prompts = self.names.fill(self.ctx[None, 0], torch.zeros_like(select), select)
        return self.tower(prompts, self.text_additions(select, added))


@TRAINER_REGISTRY.register()
class WrittenCoupledPrompts(MultiTaskTrainer):
    section = "COUPLED"

    @classmethod
    def build_learner(cls, cfg, tower, space):
        return CoupledPrompts(tower, space, cfg.TRAINER.COUPLED.N_CTX, cfg.TRAINER.COUPLED.DEPTH)
