"""MMRL++ (Guo and Gu, "MMRL++: Parameter-Efficient and Interaction-Aware Representation Learning for Vision-Language
Models", IJCV 2026), trainer name MMRLpp.

MMRL (mmrl.py) with fewer parameters: the maps of a tower share one matrix M and differ by A_i B_i of rank ALIGNER_RANK;
the second feature is projected by CLIP's own projection plus A B of rank PROJ_RANK. Where tokens replace the outputs of
the tokens before, they get the weight BETA, and the outputs the weight 1 - BETA.

The published transfer results use a BETA chosen for each test set. Here a model is tested with the BETA of its
training; to compare with the published code, give another one to the test (TRAINER.MMRLPP.BETA).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dassl.config import between, declare
from dassl.engine import TRAINER_REGISTRY

from .representation import RepresentationTrainer, declare_representation

KEY = "TRAINER.MMRLPP."
declare_representation("MMRLPP")
declare(KEY + "BETA", 0.9, allowed=between(0, 1), help="weight of new tokens in later layers; 1: as in MMRL")
declare(KEY + "ALIGNER_RANK", 4, allowed=between(1, 16_384), help="rank of the maps' own part")
declare(KEY + "PROJ_RANK", 64, allowed=between(1, 16_384), help="rank of the change of CLIP's image projection")


def low_rank(rows: int, rank: int, columns: int) -> tuple[nn.Parameter, nn.Parameter]:
    """A (rows, rank), uniform in +-rank^-0.5, and B (rank, columns), zero."""
    bound = rank**-0.5
    return nn.Parameter(torch.empty(rows, rank).uniform_(-bound, bound)), nn.Parameter(torch.zeros(rank, columns))


class Aligner(nn.Module):
    """Maps of one tower: tokens R (K, r) to the tokens R (M + A_i B_i)^T + b_i of each layer, (I, K, W)."""

    def __init__(self, layers: int, width: int, out: int, rank: int):
        super().__init__()
        drawn = nn.Linear(width, out)
        self.weight = nn.Parameter(drawn.weight.detach())  # M (W, r)
        factors = [low_rank(out, rank, width) for _ in range(layers)]
        self.A = nn.Parameter(torch.stack([a.detach() for a, _ in factors]))  # (I, W, rank)
        self.B = nn.Parameter(torch.stack([b.detach() for _, b in factors]))  # (I, rank, r)
        self.bias = nn.Parameter(drawn.bias.detach().expand(layers, -1).clone())  # (I, W)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens @ (self.weight + self.A @ self.B).transpose(-1, -2) + self.bias[:, None]


class SharedSpace(nn.Module):
    """R, one `Aligner` per tower, and the change A B of CLIP's projection; see `mmrl.RepresentationSpace`."""

    def __init__(self, clip, layers: int, count: int, width: int, aligner_rank: int, proj_rank: int):
        super().__init__()
        self.frozen = [clip.visual.proj]  # in a list, so that it is not a parameter of this module
        self.rep = nn.Parameter(torch.empty(count, width).normal_(std=0.02))
        W, d = clip.visual.proj.shape
        self.text = Aligner(layers, width, clip.ln_final.weight.shape[0], aligner_rank)
        self.image = Aligner(layers, width, W, aligner_rank)
        self.A, self.B = low_rank(W, proj_rank, d)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.text(self.rep), self.image(self.rep)

    @property
    def projection(self) -> Tensor:
        return self.frozen[0].float() + self.A @ self.B


@TRAINER_REGISTRY.register()
class MMRLpp(RepresentationTrainer):
    """MMRL with maps that share a matrix: one representation space for all tasks, or one per task (TSC)."""

    section = "MMRLPP"
    representation_space = SharedSpace

    @classmethod
    def space_options(cls, c) -> dict:
        return {"aligner_rank": c.ALIGNER_RANK, "proj_rank": c.PROJ_RANK}

    @classmethod
    def share(cls, c) -> float:
        return c.BETA
