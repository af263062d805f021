"""Tip-Adapter (Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022;
arXiv 2207.09519): a cache of training images beside zero-shot CLIP, without training.

    logits_k = s f . t_k + alpha sum_{i: y_i = k} exp(-beta (1 - f . key_i))

key_i (d,) is the normalised mean of V = 10 augmented views of training image i, f (d,) the normalised feature of an
image. alpha and beta are searched per task: beta = 0.1 + i (B - 0.1) / 200 and alpha = 0.1 + j (A - 0.1) / 20.

Different from the published code: the search takes min(shots, 4) validation images per class, not the whole validation
split or, on ImageNet, the test images (CHOSEN_ON test). B and A are the same for all data sets, not tuned by data set
(BY_DATASET). s is CLIP's own scale, not 100 (SCALE). The values have a column for every class, also for a last class
without images.
"""

from __future__ import annotations

from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import FittedTrainer
from .cache import Cache, cache_options, declare_cache
from .samples import StartSamples

declare_cache("TIPADAPTER")


class FixedCache(Cache):
    """A cache whose keys are not learned."""

    def __init__(self, tower: TextTower, space: TaskSpace, **options):
        super().__init__(tower, space, **options)
        self.rows.keys.requires_grad_(False)

    def start(self, samples: StartSamples) -> None:
        super().start(samples)
        self.choose(samples)


@TRAINER_REGISTRY.register()
class TipAdapter(FittedTrainer):
    """The training-free Tip-Adapter. New classes are predicted zero-shot: the cache has no vote for them."""

    section = "TIPADAPTER"

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> FixedCache:
        return FixedCache(tower, space, **cache_options(cfg.TRAINER.TIPADAPTER, cls.section, space))
