"""UPT (Zang et al., "Unified Vision and Language Prompt Learning") and the ablations of its Table 2, trainer name UPT.

A small transformer makes the prompts of both towers out of one set of tokens, at every layer. MODE joint trains
independent text and visual prompts together, shared has the same ones in both towers, mlp has an MLP in place of the
transformer. The paper states neither n nor heads, FFN width and epochs; see docs/methods.md for the defaults.
"""

from __future__ import annotations

from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .settings import declare_shared
from .unified import (
    UnifiedLearner,
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
    """Unified prompts, shared by all tasks or (TSC) one set per task."""

    section = "UPT"

    def problems(self, cfg) -> list[str]:
        return self.vit_problems(cfg) + unified_problems(KEY, cfg.TRAINER.UPT)

    def load_critical_settings(self, c) -> dict[str, object]:
        return unified_critical_settings(c, self.text_tower.width)

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> UnifiedLearner:
        c = cfg.TRAINER.UPT
        return learned_sets(tower, space, shared=not c.TSC, dropout=c.DROPOUT, **unified_settings(c))
