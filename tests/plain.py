"""Both towers with prompts as one would write them down: loops over open_clip's own blocks with every token."""

from __future__ import annotations

import torch
from torch import Tensor

from clip import clip
from clip.model import CLIP


def image_features(
    model: CLIP, images: Tensor, tokens: Tensor, first: int = 0, local: bool = False, weights_of: int | None = None
) -> Tensor:
    """Features (B, d), with `local` all outputs (B, 1 + P, d), or the attention (B, h, S, S) of layer `weights_of`.

    tokens (B, I, K, W): each image's own prompts, between [CLS] and patches, of layers first ... first + I - 1.
    """
    v, inside = model.visual, 0
    x = v._embeds(images)
    for i, block in enumerate(v.transformer.resblocks):
        if first <= i < first + tokens.shape[1]:
            x = torch.cat([x[:, :1], tokens[:, i - first], x[:, 1 + inside :]], 1)
            inside = tokens.shape[2]
        if i == weights_of:
            normed = block.ln_1(x)
            return block.attn(normed, normed, normed, need_weights=True, average_attn_weights=False)[1]
        x = block(x)
    x = v.ln_post(x) @ v.proj
    return torch.cat([x[:, :1], x[:, 1 + inside :]], 1) if local else x[:, 0]


def text_features(model: CLIP, contexts: Tensor, names: list[str]) -> Tensor:
    """Features (C, d) of "[SOS] context name . [EOS]", padded to 77; contexts (I, L, D): of the first I layers."""
    L = contexts.shape[1]
    ids = clip.tokenize([" ".join(["X"] * L) + f" {name.replace('_', ' ')}." for name in names])  # (C, 77)
    x = model.token_embedding(ids)
    for i, block in enumerate(model.transformer.resblocks):
        if i < len(contexts):
            x = torch.cat([x[:, :1], contexts[i].expand(len(names), -1, -1), x[:, 1 + L :]], 1)
        if i == 0:
            x = x + model.positional_embedding
        x = block(x, attn_mask=model.transformer.mask)
    return model.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)] @ model.text_projection
