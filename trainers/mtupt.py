"""Unified prompts shared softly by tasks, trainer name MTUPT: the idea of SoftCPT (Ding et al.) on UPT (Zang et al.).

A meta network maps the text feature of each task's name to the raw prompts of the task. One network, shared by all
tasks, maps raw prompts to the prompts of both towers. So tasks share text and visual prompts in proportion to the
similarity of their names. SHARING hard (one set for all tasks) and task (one set per task) have no meta network.
"""

from __future__ import annotations

from clip.text_tower import TextTower
from dassl.config import declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .deep import DeepLearner
from .prompt_sets import (
    GeneratedPrompts,
    declare_generated,
    generated_critical_settings,
    generated_problems,
    generated_settings,
)
from .unified import Unify, declare_unified, learned_sets, unified_critical_settings, unified_problems, unified_settings

KEY = "TRAINER.MTUPT."
declare(
    KEY + "SHARING",
    "soft",
    allowed=("soft", "hard", "task"),
    help="soft: a meta network generates the prompts of each task; hard: one set for all tasks; task: one per task",
)
declare_unified("MTUPT")
declare_generated("MTUPT")


@TRAINER_REGISTRY.register()
class MTUPT(MultiTaskTrainer):
    """Unified prompts of several tasks: shared softly, hard, or not at all."""

    section = "MTUPT"

    def problems(self, cfg) -> list[str]:
        c = cfg.TRAINER.MTUPT
        found = self.image_problems(cfg) + self.text_problems(cfg)
        return found + unified_problems(KEY, c) + generated_problems(KEY, c)

    def load_critical_settings(self, c) -> dict[str, object]:
        return unified_critical_settings(c, self.text_tower.width) | generated_critical_settings(c)

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> DeepLearner:
        c = cfg.TRAINER.MTUPT
        if c.SHARING != "soft":
            return learned_sets(tower, space, shared=c.SHARING == "hard", dropout=c.DROPOUT, **unified_settings(c))
        sets = GeneratedPrompts(tower, space, lambda: Unify(tower, **unified_settings(c)), **generated_settings(c))
        return DeepLearner(tower, space, sets, c.N_CTX // 2, c.DROPOUT)
