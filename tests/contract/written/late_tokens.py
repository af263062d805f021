"""MMRL (Guo and Gu, CVPR 2025): tokens of one shared space enter late layers of both towers. Their outputs in the image
tower give a second feature, which is used only for the classes of training."""

import torch
import torch.nn.functional as F
from torch import nn

from clip.additions import Additions, Tokens, TowerAdditions
from clip.image_tower import ImageTower
from dassl.config import between, declare
from dassl.engine import TRAINER_REGISTRY
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner
from trainers.losses import cosine_logits
from trainers.settings import declare_shared

declare_shared("LATETOKENS", PREC="fp32")
declare("TRAINER.LATETOKENS.ALPHA", 0.7, allowed=between(0, 1), help="share of the class feature in the prediction")


class LateTokens(Learner):
    def __init__(self, tower, space, alpha, count=3, width=32):
        super().__init__(tower, space)
        layers, W, _ = ImageTower(tower.clip).require_prompts()
        self.alpha, self.layers = alpha, range(min(layers, len(tower.blocks)) // 2, min(layers, len(tower.blocks)))
        self.space_tokens = nn.Parameter(torch.empty(count, width).normal_(std=0.02))
        self.to_text = nn.ModuleList(nn.Linear(width, tower.width) for _ in self.layers)
        self.to_image = nn.ModuleList(nn.Linear(width, W) for _ in self.layers)
        self.project = nn.Parameter(torch.empty(W, tower.output_dim).normal_(std=W**-0.5))
        self.sentences = tower.texts([f"a photo of a {name.replace('_', ' ')}." for name in space.classnames])

    def additions(self):
        text, image = (
            torch.stack([make(self.space_tokens) for make in maps])[None] for maps in (self.to_text, self.to_image)
        )
        kept = Tokens(image, self.layers, keep=True)
        return TowerAdditions(Additions(Tokens(text, self.layers, insert=True)), Additions(kept))

    def text(self, select, added=None):
        return self.tower(self.sentences.part(select), self.text_additions(select, added))

    def image(self, features, task=None):
        of_class, outputs = features
        return of_class, outputs.float().mean(1) @ self.project

    def both(self, image, text):
        return cosine_logits(image[0], text, self.scale), cosine_logits(image[1], text, self.scale)

    def logits(self, image, text, columns, task=None):
        z, z_r = self.both(image, text)
        return torch.where(self.known[columns], self.alpha * z + (1 - self.alpha) * z_r, z)


@TRAINER_REGISTRY.register()
class WrittenLateTokens(MultiTaskTrainer):
    section = "LATETOKENS"

    @classmethod
    def build_learner(cls, cfg, tower, space):
        return LateTokens(tower, space, cfg.TRAINER.LATETOKENS.ALPHA)

    def loss(self, step):
        a = self.model.alpha
        z, z_r = (
            self.classification_loss(logits, step.columns, step.task, step.target)
            for logits in self.model.both(step.image, step.text)
        )
        near = 1 - F.cosine_similarity(step.image[0].float(), step.frozen.float(), dim=-1).mean()
        return a * z + (1 - a) * z_r + 0.5 * near, {"near": near.item()}
