"""UPT (Zang et al., "Unified Vision and Language Prompt Learning") and the ablations of its Table 2, trainer name UPT.

A small transformer maps one set of tokens per layer to the prompts of both towers. MODE joint trains independent text
and visual prompts together, shared uses the same prompts in both towers, and mlp replaces the transformer by an MLP.
The paper does not report n, heads, FFN width and epochs; see docs/methods.md for the defaults.
"""

from __future__ import annotations

from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .deep import DeepLearner
from .settings import declare_shared
from .unified import (
    declare_unified,
    learned_sets,
    unified_critical_settings,
    unified_problems,
    unified_settings,
)

KEY = "TRAINER.UPT."
declare_unified("UPT")
declare_shared("UPT", TSC=False)


@TRAINER_REGISTRY.register()
class UPT(MultiTaskTrainer):
    """Learn unified prompts: one set for all tasks, or one set per task (TSC)."""

    section = "UPT"

    def problems(self, cfg) -> list[str]:
        return self.image_problems(cfg) + self.text_problems(cfg) + unified_problems(KEY, cfg.TRAINER.UPT)

    def load_critical_settings(self, c) -> dict[str, object]:
        return unified_critical_settings(c, self.text_tower.width)

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> DeepLearner:
        c = cfg.TRAINER.UPT
        return learned_sets(tower, space, shared=not c.TSC, dropout=c.DROPOUT, **unified_settings(c))
