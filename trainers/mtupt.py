"""Unified prompts shared softly by tasks, trainer name MTUPT: the idea of SoftCPT (Ding et al.) on UPT (Zang et al.).

A meta network maps the text feature of each task's name to the raw prompts of the task. One network, shared by all
tasks, maps raw prompts to the prompts of both towers. So tasks share text and visual prompts in proportion to the
similarity of their names. SHARING hard (one set for all tasks) and task (one set per task) have no meta network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .meta_networks import build_meta_network, meta_network_problems
from .prompts import NameTokens, PromptLearner
from .settings import is_changed
from .unified import (
    UnifiedLearner,
    Unify,
    declare_unified,
    learned_sets,
    unified_critical_settings,
    unified_problems,
    unified_settings,
)

META_NETWORKS = ("lin", "mlp", "transformer")

KEY = "TRAINER.MTUPT."
declare(
    KEY + "SHARING",
    "soft",
    allowed=("soft", "hard", "task"),
    help="soft: a meta network generates the prompts of each task; hard: one set for all tasks; task: one per task",
)
declare_unified("MTUPT")
declare(
    KEY + "TASK_N_CTX",
    0,
    allowed=between(0, 1000),
    help="M, number of learnable context tokens of the task prompts, shared by tasks; 0: task features are fixed",
)
declare(KEY + "PG_TYPE", "lin", allowed=META_NETWORKS, help="meta network, as in MTCoOp")
declare(
    KEY + "PG_HIDDEN", 0, allowed=between(0, 16_384), help="hidden width of mlp (0: D_u // 8), of transformer (0: D_u)"
)
declare(KEY + "PG_HEADS", 8, allowed=between(1, 1024), help="attention heads of transformer")
declare(KEY + "PG_LAYERS", 1, allowed=between(1, 100), help="layers of transformer")
SOFT_ONLY = ("TASK_N_CTX", "PG_TYPE", "PG_HIDDEN", "PG_HEADS", "PG_LAYERS")


class GeneratedPrompts(nn.Module):
    """Generate unified prompts from the feature of each task's name: `forward() -> (text, visual)` of T tasks.

    Parameters: `prompt_gen.<i>`, one meta network per kind of raw prompts (two in mode joint, else one); `unify`, the
    network shared by all tasks; with `task_n_ctx` > 0 also `task_prompt_learner.ctx` (M, D).
    """

    def __init__(self, tower: TextTower, space: TaskSpace, *, task_n_ctx: int = 0, meta: dict | None = None, **unified):
        super().__init__()
        self.tower = tower
        names = [task.name for task in space.tasks]
        if task_n_ctx:
            self.task_prompt_learner = PromptLearner(tower, names, task_n_ctx)
        else:
            self.features = frozen_features(tower, names)
        self.unify = Unify(tower, **unified)
        self.prompt_gen = nn.ModuleList(
            build_meta_network(
                dims=(tower.output_dim,), n_ctx=layers * count, width=width, **(meta or {"pg_type": "lin"})
            )
            for layers, count, width in self.unify.shapes
        )

    def task_features(self) -> Tensor:
        """Task features (T, d), not normalised, as in SoftCPT."""
        if hasattr(self, "task_prompt_learner"):
            return self.tower(self.task_prompt_learner())
        return self.features

    def forward(self) -> tuple[Tensor, Tensor]:
        f = self.task_features()
        raw = [
            network(f).unflatten(1, shape[:2])  # (T, I, n, D_u)
            for network, shape in zip(self.prompt_gen, self.unify.shapes, strict=True)
        ]
        return self.unify(*raw)


@torch.no_grad()
def frozen_features(tower: TextTower, names: list[str]) -> Tensor:
    """Text features (T, d) of task names without context: [SOS] name . [EOS]."""
    tokens = NameTokens(tower, names)
    tokens.check(0)
    empty = torch.zeros(1, 0, tower.width, device=tower.device)
    return tower(tokens.fill(empty, torch.zeros(len(names), dtype=torch.long, device=tower.device)))


@TRAINER_REGISTRY.register()
class MTUPT(MultiTaskTrainer):
    """Unified prompts of several tasks: shared softly, hard, or not at all."""

    section = "MTUPT"

    def problems(self, cfg) -> list[str]:
        c = cfg.TRAINER.MTUPT
        found = self.image_problems(cfg) + unified_problems(KEY, c)
        if c.SHARING == "soft":
            return found + meta_network_problems(KEY, c)
        return found + [
            f"{KEY}{name} {c[name]} needs {KEY}SHARING soft" for name in SOFT_ONLY if is_changed(KEY, c, name)
        ]

    def load_critical_settings(self, c) -> dict[str, object]:
        found = unified_critical_settings(c, self.text_tower.width)
        return {**found, "PG_HEADS": c.PG_HEADS} if c.SHARING == "soft" and c.PG_TYPE == "transformer" else found

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> UnifiedLearner:
        c = cfg.TRAINER.MTUPT
        if c.SHARING != "soft":
            return learned_sets(tower, space, shared=c.SHARING == "hard", dropout=c.DROPOUT, **unified_settings(c))
        meta = {"pg_type": c.PG_TYPE, "hidden": c.PG_HIDDEN, "heads": c.PG_HEADS, "layers": c.PG_LAYERS}
        sets = GeneratedPrompts(tower, space, task_n_ctx=c.TASK_N_CTX, meta=meta, **unified_settings(c))
        return UnifiedLearner(tower, space, sets, c.N_CTX // 2, c.DROPOUT)
