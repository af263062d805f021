"""Tip-Adapter-F (Zhang et al., ECCV 2022): a cache of training features, fitted first and then trained."""

import torch
import torch.nn.functional as F

from dassl.config import at_least, declare
from dassl.engine import TRAINER_REGISTRY
from trainers.base import MultiTaskTrainer
from trainers.learner import Learner
from trainers.losses import cosine_logits
from trainers.rows import SampleRows
from trainers.settings import declare_shared

declare_shared("CACHE", PREC="fp32")
declare("TRAINER.CACHE.ALPHA", 1.17, allowed=at_least(0), help="weight of the cache")
declare("TRAINER.CACHE.BETA", 1.0, allowed=at_least(0), help="sharpness of the affinities")


class Cache(Learner):
    def __init__(self, tower, space, alpha, beta):
        super().__init__(tower, space)
        self.alpha, self.beta = alpha, beta
        self.rows = SampleRows(space, tower.output_dim)

    def start(self, samples):
        keys = torch.cat([F.normalize(own.features, dim=-1) for own in samples.train])
        column = [own.labels + offset for own, offset in zip(samples.train, self.space.offsets, strict=False)]
        self.rows.fill(keys, torch.cat(column))

    def logits(self, image, text, columns, task=None):
        x = F.normalize(image.float(), dim=-1)
        affinity = (-self.beta * (1 - x @ self.rows.keys.t())).exp()  # (B, M)
        votes = affinity @ (self.rows.column[:, None] == columns).float()  # (B, N')
        return cosine_logits(image, text, self.scale) + self.alpha * votes


@TRAINER_REGISTRY.register()
class WrittenCache(MultiTaskTrainer):
    section = "CACHE"

    @classmethod
    def build_learner(cls, cfg, tower, space):
        return Cache(tower, space, cfg.TRAINER.CACHE.ALPHA, cfg.TRAINER.CACHE.BETA)
