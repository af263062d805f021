"""Similar to PromptSRC (Khattak et al., ICCV 2023): prompts in both towers, regularised towards the frozen features of
the same views and classes."""

import torch
import torch.nn.functional as F
from torch import nn

from clip.additions import Additions, Tokens, TowerAdditions
from clip.image_tower import ImageTower
from dassl.engine import TRAINER_REGISTRY
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner
from trainers.losses import cosine_logits
from trainers.prompts import NameTokens
from trainers.settings import declare_shared

declare_shared("BESIDE", PREC="fp32", N_CTX=4)


class BothPrompts(Learner):
    def __init__(self, tower, space, n_ctx):
        super().__init__(tower, space)
        width = ImageTower(tower.clip).require_prompts()[1]
        self.text_prompts = nn.Parameter(torch.empty(3, n_ctx, tower.width).normal_(std=0.02))
        self.image_prompts = nn.Parameter(torch.empty(3, n_ctx, width).normal_(std=0.02))
        self.names = NameTokens(tower, space.classnames)

    def additions(self):
        deep = Tokens(self.text_prompts[None, 1:], [1, 2])
        return TowerAdditions(Additions(deep), Additions(Tokens(self.image_prompts[None], normed=True)))

    def text(self, select, added=None):
        prompts = self.names.fill(self.text_prompts[None, 0], torch.zeros_like(select), select)
        return self.tower(prompts, self.text_additions(select, added))


@TRAINER_REGISTRY.register()
class WrittenFrozenBeside(MultiTaskTrainer):
    section = "BESIDE"

    @classmethod
    def build_learner(cls, cfg, tower, space):
        return BothPrompts(tower, space, cfg.TRAINER.BESIDE.N_CTX)

    def loss(self, step):
        hand = self.model.hand_features()[step.columns]
        near_text = F.l1_loss(F.normalize(step.text.float(), dim=-1), hand)
        near_image = F.l1_loss(F.normalize(step.image.float(), dim=-1), F.normalize(step.frozen.float(), dim=-1))
        teacher = cosine_logits(step.frozen, hand, self.scale).log_softmax(-1)
        kl = F.kl_div(step.logits.log_softmax(-1), teacher, log_target=True, reduction="batchmean")
        return super().loss(step) + 25 * near_text + 10 * near_image + kl, {"kl": kl.item()}
