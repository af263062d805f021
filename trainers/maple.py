"""MaPLe (Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023), trainer name MaPLe.

Deep text prompts P_0 ... P_{J-1}, and a linear map per layer from them to visual prompts, V_i = F_i(P_i). In both
towers the prompts of a layer replace the outputs of the prompts before; the visual prompts of the first layer pass the
tower's first LayerNorm. Published settings: n 2, J 9; in cross-dataset and domain-generalisation experiments J 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clip.image_tower import ImageTower
from clip.text_tower import TextTower
from dassl.config import between, declare
from dassl.data.tasks import TaskSpace
from dassl.engine import TRAINER_REGISTRY

from .base import MultiTaskTrainer
from .deep import (
    DeepLearner,
    build_deep,
    declare_deep,
    deep_critical_settings,
    deep_problems,
    depth_of,
    first_words,
)
from .settings import declare_shared

KEY = "TRAINER.MAPLE."
declare_shared("MAPLE", PREC="fp16", N_CTX=2, CTX_INIT="a photo of a")
declare(
    KEY + "PROMPT_DEPTH",
    9,
    allowed=between(-1, 1000),
    help="J, layers of each tower with prompts; 1: the input only, -1: all",
)
declare_deep("MAPLE")


def coupled_problems(key: str, c) -> list[str]:
    """Contradictions among the settings of the section `c` of coupled prompts, whose keys begin with `key`."""
    found = [] if c.PROMPT_DEPTH else [f"{key}PROMPT_DEPTH 0: nothing would be learned; -1 stands for all layers"]
    return found + deep_problems(key, c, c.N_CTX)


class Coupling(nn.Module):
    """Maker of coupled prompts: text prompts (J, n, D) stay, visual prompts are F_i(P_i) with `weight` and `bias`.

    The maps F_1 ... F_{J-1} start as copies of one drawn map, as in the published code. `c`: the method's settings.
    """

    def __init__(self, tower: TextTower, c):
        super().__init__()
        layers, W, _ = ImageTower(tower.clip).require_prompts()
        depth = depth_of("PROMPT_DEPTH", c.PROMPT_DEPTH, min(layers, len(tower.blocks)))
        self.shapes = [(depth, c.N_CTX, tower.width)]
        self.start = first_words(tower, c.N_CTX, c.CTX_INIT)[0]
        maps = [nn.Linear(tower.width, W) for _ in range(2)]
        which = [maps[0], *[maps[1]] * (depth - 1)]
        self.weight = nn.Parameter(torch.stack([m.weight.detach() for m in which]))  # (J, W, D)
        self.bias = nn.Parameter(torch.stack([m.bias.detach() for m in which]))  # (J, W)

    def initial(self) -> list[nn.Parameter]:
        prompts = torch.empty(*self.shapes[0]).normal_(std=0.02)
        if self.start is not None:
            prompts[0] = self.start
        return [nn.Parameter(prompts)]

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        return text, text @ self.weight.transpose(-1, -2) + self.bias[:, None]


@TRAINER_REGISTRY.register()
class MaPLe(MultiTaskTrainer):
    """Coupled deep prompts: one set for all tasks, one per task (TSC), or generated from task names (SHARING soft)."""

    section = "MAPLE"

    def problems(self, cfg) -> list[str]:
        return self.image_problems(cfg) + coupled_problems(KEY, cfg.TRAINER.MAPLE)

    def load_critical_settings(self, c) -> dict[str, object]:
        return deep_critical_settings(c)

    @classmethod
    def build_learner(cls, cfg, tower: TextTower, space: TaskSpace) -> DeepLearner:
        c = cfg.TRAINER.MAPLE
        return build_deep(c, tower, space, lambda: Coupling(tower, c), c.N_CTX)
