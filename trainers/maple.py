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
from dassl.engine import TRAINER_REGISTRY

from .deep_trainer import DeepTrainer, declare_deep, depth_of, drawn, first_words
from .settings import declare_shared


def declare_coupled(section: str, depth: int) -> None:
    """Declare the settings of coupled prompts in cfg.TRAINER.<section>."""
    declare_shared(section, PREC="fp16", N_CTX=2, CTX_INIT="a photo of a")
    text = "J, layers of each tower with prompts; 1: the input only, -1: all"
    declare(f"TRAINER.{section}.PROMPT_DEPTH", depth, allowed=between(-1, 1000), help=text)
    declare_deep(section)


class Coupling(nn.Module):
    """Maker of coupled prompts: text prompts (J, n, D) stay, visual prompts are F_i(P_i) with `weight` and `bias`.

    The maps F_1 ... F_{J-1} start as copies of one drawn map, as in the published code.
    """

    def __init__(self, tower: TextTower, n_ctx: int, depth: int, init: str):
        super().__init__()
        layers, W, _ = ImageTower(tower.clip).require_prompts()
        depth = depth_of("PROMPT_DEPTH", depth, min(layers, len(tower.blocks)))
        self.shapes = [(depth, n_ctx, tower.width)]
        self.start = first_words(tower, n_ctx, init)[0]
        maps = [nn.Linear(tower.width, W) for _ in range(2)]
        which = [maps[0], *[maps[1]] * (depth - 1)]
        self.weight = nn.Parameter(torch.stack([m.weight.detach() for m in which]))  # (J, W, D)
        self.bias = nn.Parameter(torch.stack([m.bias.detach() for m in which]))  # (J, W)

    def initial(self) -> list[nn.Parameter]:
        return drawn(self.shapes, self.start)

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        return text, text @ self.weight.transpose(-1, -2) + self.bias[:, None]


declare_coupled("MAPLE", depth=9)


@TRAINER_REGISTRY.register()
class MaPLe(DeepTrainer):
    """Coupled deep prompts: one set for all tasks, one per task (TSC), or generated from task names (SHARING soft)."""

    section = "MAPLE"

    @classmethod
    def maker(cls, c, tower: TextTower) -> Coupling:
        return Coupling(tower, c.N_CTX, c.PROMPT_DEPTH, c.CTX_INIT)

    def problems(self, cfg) -> list[str]:
        found, key = self.image_problems(cfg), f"TRAINER.{self.section}.PROMPT_DEPTH"
        if not cfg.TRAINER[self.section].PROMPT_DEPTH:
            found.append(f"{key} 0: nothing would be learned; -1 stands for all layers")
        return found + super().problems(cfg)
