"""The tiny CLIP during training: OpenAI's parameter names and arithmetic.

The finished file is an ordinary CLIP (ViT image tower, causal text tower, QuickGELU). Only training needs this class:
it can leave out patches of an image and uses a small vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from open_clip.transformer import QuickGELU, Transformer
from torch import nn
from torch.nn import functional as F

HEAD_WIDTH = 64


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of the model, stored as JSON in the metadata entry "config" of the file."""

    emb: int = 192  # joint dimension
    res: int = 64  # image side in pixels
    patch: int = 8
    vw: int = 192  # image width
    vl: int = 6  # image layers
    tw: int = 192  # text width
    tl: int = 4  # text layers
    ctx: int = 77
    vocab: int = 9885  # rows of the embedding table


def transformer(width: int, layers: int) -> Transformer:
    """Blocks with the initialisation of OpenAI's CLIP."""
    blocks = Transformer(width, layers, width // HEAD_WIDTH, act_layer=QuickGELU)
    into_residual = width**-0.5 * (2 * layers) ** -0.5
    for block in blocks.resblocks:
        nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(block.attn.out_proj.weight, std=into_residual)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=into_residual)
    return blocks


class ImageTower(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        width, self.patch, scale = config.vw, config.patch, config.vw**-0.5
        self.conv1 = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((config.res // config.patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = transformer(width, config.vl)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, config.emb))

    def forward(self, images: torch.Tensor, keep: int | None = None) -> torch.Tensor:
        """``images`` (B, 3, H, W) -> (B, d). ``keep``: use only this many patches, preferably with ink."""
        batch, channels, height, _ = images.shape
        side = height // self.patch
        x = images.view(batch, channels, side, self.patch, side, self.patch).permute(0, 2, 4, 1, 3, 5)
        x = x.reshape(batch, side * side, -1)  # (B, P, 3 * patch * patch): conv1 as one matrix product
        first, positions = self.positional_embedding[0], self.positional_embedding[1:]
        if keep is not None and keep < side * side:
            rank = torch.rand(batch, side * side) + (x.float().std(-1) > 0.02).float()
            chosen = rank.topk(keep, dim=1).indices.sort(1).values
            x = torch.gather(x, 1, chosen[..., None].expand(-1, -1, x.shape[-1]))
            positions = positions[chosen]
        x = F.linear(x, self.conv1.weight.flatten(1))
        first = (self.class_embedding + first).to(x.dtype).expand(batch, 1, -1)
        x = torch.cat([first, x + positions.to(x.dtype)], dim=1)
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class TinyCLIP(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = ImageTower(config)
        self.transformer = transformer(config.tw, config.tl)
        self.token_embedding = nn.Embedding(config.vocab, config.tw)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.ctx, config.tw))
        self.ln_final = nn.LayerNorm(config.tw)
        self.text_projection = nn.Parameter(config.tw**-0.5 * torch.randn(config.tw, config.emb))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        mask = torch.full((config.ctx, config.ctx), float("-inf")).triu_(1)
        self.register_buffer("mask", mask, persistent=False)

    def encode_image(self, images: torch.Tensor, keep: int | None = None) -> torch.Tensor:
        return self.visual(images, keep)

    def encode_text(self, ids: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """``ids`` (N, S) rows of the small table, ``end`` (N,) positions of [EOS] -> (N, d)."""
        length = ids.shape[1]
        x = self.token_embedding(ids)
        x = x + self.positional_embedding[:length].to(x.dtype)
        x = self.transformer(x, self.mask[:length, :length])
        return self.ln_final(x[torch.arange(len(x)), end]) @ self.text_projection


def expand(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert the tensors of the file to the state dict of an ordinary CLIP with all 49,408 tokens."""
    state = dict(state)
    remap = state.pop("token_remap").long()
    state["token_embedding.weight"] = state["token_embedding.weight"][remap]
    return state
