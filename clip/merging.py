"""Merge low-rank changes into a copy of a CLIP, to export it or to use it with other code."""

from __future__ import annotations

from copy import deepcopy

import torch

from dassl.utils import UserError

from .additions import TowerAdditions
from .model import CLIP

ATTENTION_INPUTS = ("q", "k", "v")  # rows of in_proj_weight, in this order


@torch.no_grad()
def merged_copy(clip: CLIP, added: TowerAdditions, group: int = 0) -> CLIP:
    """Copy `clip` and add the low-rank changes to the weights of the copy: W + scale B A. `clip` stays as it is.

    `group`: index of the set, for changes in several sets; changes in one set ignore it. Without dropout, the copy
    computes the same features as `clip` with the additions. Its `weights_hash` is empty, as no file has its weights.

    Raises UserError for tokens, which are not part of the weights, and for a set that does not exist.
    """
    copy = deepcopy(clip)
    copy.weights_hash = ""
    for tower, part in zip((copy, copy.visual), added, strict=True):
        if part is None:
            continue
        if part.tokens is not None and part.alters:
            raise UserError("Prompt tokens cannot be merged into weights: expected low-rank changes only.")
        if not 0 <= group < max(part.sets, 1) and part.sets > 1:
            raise UserError(f"Set {group} of low-rank changes: expected 0 to {part.sets - 1}.")
        for (layer, name), change in part.changes.items():
            block = tower.transformer.resblocks[layer]
            down, up = (
                (factor[group if change.sets > 1 else 0] if factor.ndim == 3 else factor).to(torch.float64)
                for factor in (change.down, change.up)
            )
            weight = _weight(block, name)
            weight.copy_(weight.double() + change.scale * up @ down)
    return copy


def _weight(block: torch.nn.Module, name: str) -> torch.Tensor:
    """The weight (out, in) of a projection of a residual attention block; a view for q, k and v."""
    if name in ATTENTION_INPUTS:
        return block.attn.in_proj_weight.chunk(3)[ATTENTION_INPUTS.index(name)]
    layers = {"out": block.attn.out_proj, "fc": block.mlp.c_fc, "proj": block.mlp.c_proj}
    return layers[name].weight
