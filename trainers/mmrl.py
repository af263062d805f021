"""MMRL (Guo and Gu, "MMRL: Multi-Modal Representation Learning for Vision-Language Models", CVPR 2025), trainer name
MMRL.

Tokens of a shared representation space R (K, r) enter the later layers of both towers. In the image tower, the mean of
their outputs gives a second feature f_r beside the feature f_c of the class token. With z, z_r the logits of both
features against the text features g, the loss is
ALPHA CE(z) + (1 - ALPHA) CE(z_r) + REG_WEIGHT (1 - cos(f_c, F) + 1 - cos(g, G)), F and G frozen features of the same
view and sentence. Classes of training are predicted by ALPHA z + (1 - ALPHA) z_r. New classes, and other data sets with
the same classes, are predicted by z alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .representation import RepresentationTrainer, declare_representation

declare_representation("MMRL")


class RepresentationSpace(nn.Module):
    """R and a linear map per layer and tower: () -> text tokens (I, K, D), image tokens (I, K, W).

    `projection` (W, d) is that of the second feature. The maps of a tower start as copies of one drawn map, as in the
    published code.
    """

    def __init__(self, clip, layers: int, count: int, width: int):
        super().__init__()
        self.rep = nn.Parameter(torch.empty(count, width).normal_(std=0.02))
        W, d = clip.visual.proj.shape
        for name, out in (("text", clip.ln_final.weight.shape[0]), ("image", W)):
            drawn = nn.Linear(width, out)
            setattr(self, f"{name}_weight", nn.Parameter(drawn.weight.detach().expand(layers, -1, -1).clone()))
            setattr(self, f"{name}_bias", nn.Parameter(drawn.bias.detach().expand(layers, -1).clone()))
        self.projection = nn.Parameter(torch.empty(W, d).normal_(std=W**-0.5))

    def forward(self) -> tuple[Tensor, Tensor]:
        text = self.rep @ self.text_weight.transpose(-1, -2) + self.text_bias[:, None]
        return text, self.rep @ self.image_weight.transpose(-1, -2) + self.image_bias[:, None]


@TRAINER_REGISTRY.register()
class MMRL(RepresentationTrainer):
    """Tokens of a shared representation space in both towers: one space for all tasks, or one per task (TSC)."""

    section = "MMRL"
    representation_space = RepresentationSpace
