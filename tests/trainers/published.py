"""Independent reference: prompts as in the published code, one padded row of 77 tokens per class."""

from __future__ import annotations

import torch
from torch import Tensor

from clip import clip
from clip.model import CLIP


def encode(model: CLIP, context: Tensor, names: list[str]) -> Tensor:
    """Text features (C, d) of "[SOS] context name . [EOS]" for a context (L, D)."""
    L = len(context)
    ids = clip.tokenize([" ".join(["X"] * L) + f" {name.replace('_', ' ')}." for name in names])  # (C, 77)
    with torch.no_grad():
        embedded = model.token_embedding(ids)
    x = torch.cat([embedded[:, :1], context.expand(len(names), -1, -1), embedded[:, 1 + L :]], 1)
    x = x + model.positional_embedding
    x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
    return model.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)] @ model.text_projection


def logits(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Scaled cosines: (d), (C, d) -> (C)."""
    return scale * (text / text.norm(dim=-1, keepdim=True)) @ (image / image.norm())
