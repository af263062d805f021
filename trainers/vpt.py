"""VPT (Jia et al., "Visual Prompt Tuning", ECCV 2022) on CLIP, trainer name VPT.

Learned prompts are added to the tokens of the image tower: at the first layer (VPT-shallow, eq. 4-5), or at every layer
(VPT-deep, eq. 6), where new prompts replace the outputs of the previous prompts. Text features are zero-shot CLIP with
hand-made templates, as in Zang et al., "Unified Vision and Language Prompt Learning".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.additions import Additions, Tokens, TowerAdditions
from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace, is_template
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .learner import Learner
from .prompt_sets import TaskPrompts
from .rows import task_owners
from .settings import arguments, declare_shared

KEY = "TRAINER.VPT."
declare_shared("VPT", PREC="fp16", DROPOUT=0.0, TSC=False)
declare(KEY + "N_CTX", 4, allowed=between(1, 1000), help="K, number of visual prompts per layer")
declare(KEY + "DEEP", True, help="new prompts in every layer (VPT-deep) instead of the first layer only")
declare(KEY + "TEMPLATE", "", help="template of all classes, with {} for the class name; '': the template of each task")


class VisualContext(nn.Module):
    """Visual prompts `ctx` (I, K, W), initialised as in VPT's code: uniform in (-v, v), v^2 = 6 / (3 patch^2 + W)."""

    def __init__(self, layers: int, count: int, width: int, patch: int):
        super().__init__()
        bound = (6 / (3 * patch * patch + width)) ** 0.5
        self.ctx = nn.Parameter(torch.empty(layers, count, width).uniform_(-bound, bound))

    def forward(self) -> tuple[Tensor]:
        return (self.ctx,)


class VisualPromptLearner(Learner):
    """Learner with visual prompts `sets.<g>.ctx` (I, K, W) in G sets; I = 1 or all layers. Text features are fixed."""

    def __init__(
        self,
        tower: TextTower,
        space: TaskSpace,
        *,
        n_ctx: int = 4,
        deep: bool = True,
        dropout: float = 0.0,
        template: str = "",
        sharing: str = "all",
    ):
        super().__init__(tower, space)
        layers, width, patch = ImageTower(tower.clip).require_prompts()
        owners = task_owners(space) if sharing == "task" else None
        self.dropout = dropout
        self.sets = TaskPrompts(lambda: VisualContext(layers if deep else 1, n_ctx, width, patch), owners)
        if template:
            self.hand_templates = [(template,)] * space.num_tasks

    def additions(self) -> TowerAdditions:
        (prompts,) = self.sets()
        return TowerAdditions(image=Additions(Tokens(prompts, dropout=self.dropout if self.training else 0.0)))


@TRAINER_REGISTRY.register()
class VPT(MultiTaskTrainer):
    """Trainer of VPT-deep, or VPT-shallow with DEEP False."""

    section = "VPT"

    def problems(self, cfg) -> list[str]:
        template, found = cfg.TRAINER.VPT.TEMPLATE, self.image_problems(cfg)
        if template and not is_template(template):
            found.append(f'{KEY}TEMPLATE {template!r}: expected one {{}} for the class name, e.g. "a photo of a {{}}."')
        return found

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> VisualPromptLearner:
        c = cfg.TRAINER.VPT
        sharing = "task" if c.TSC else "all"
        return VisualPromptLearner(
            tower, space, sharing=sharing, **arguments(c, "N_CTX", "DEEP", "DROPOUT", "TEMPLATE")
        )
