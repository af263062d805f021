"""Images -> joint features, with the local tokens of the image tower on request."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from dassl.utils import UserError

from .layers import mlp, norm
from .model import CLIP


class ImageTower:
    """The frozen image tower of `clip`: (B, 3, H, W) -> (B, d), with `local=True` also the local tokens (B, P, d).

    Local tokens are the outputs of a ResNet's attention pool at every position, or a ViT's patch outputs through its
    final LayerNorm and projection. Raises UserError for images of another size than the backbone's.
    """

    def __init__(self, clip: CLIP):
        self.clip = clip
        self.visual = clip.visual
        self.size = clip.visual.input_resolution
        self.output_dim = clip.visual.output_dim

    @property
    def is_vit(self) -> bool:
        return isinstance(self.visual, VisionTransformer)

    @property
    def _reads_class_token(self) -> bool:
        v = self.visual
        return (
            self.is_vit
            and v.attn_pool is None
            and v.pool_type == "tok"
            and isinstance(v.transformer.resblocks[-1].attn, nn.MultiheadAttention)
        )

    def _pooled(self, images: Tensor) -> Tensor:
        """A ViT's feature, (B, 3, H, W) -> (B, d): of the last layer only the class token's output is computed."""
        v = self.visual
        x = v._embeds(images)  # (B, 1 + P, W)
        *blocks, last = v.transformer.resblocks
        for block in blocks:
            x = _block(block, x)
        x = norm(v.ln_post, _block(last, x, queries=1)[:, 0])
        return x if v.proj is None else x @ v.proj

    def __call__(self, images: Tensor, local: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        if images.shape[-2:] != (self.size, self.size):
            raise UserError(size_error(self.clip.name, self.size, tuple(images.shape[-2:])))
        images = images.to(self.clip.dtype)
        if not local:
            return self._pooled(images) if self._reads_class_token else self.visual(images)
        if isinstance(self.visual, ModifiedResNet):
            tokens = self._attention_pool(images)
        elif self._reads_class_token:
            x = self.visual._embeds(images)
            for block in self.visual.transformer.resblocks:
                x = _block(block, x)
            tokens = norm(self.visual.ln_post, x)
            if self.visual.proj is not None:
                tokens = tokens @ self.visual.proj
        else:
            raise UserError(
                f"Backbone {self.clip.name} has no local tokens: its image tower is a {type(self.visual).__name__}."
            )
        return tokens[:, 0], tokens[:, 1:]

    def _attention_pool(self, images: Tensor) -> Tensor:
        """All outputs of the ResNet's attention pool, the pooled one first: (B, 1 + P, d)."""
        v, pool = self.visual, self.visual.attnpool
        x = v.layer4(v.layer3(v.layer2(v.layer1(v.stem(images)))))  # (B, W, h, w)
        x = x.flatten(2).transpose(1, 2)  # (B, P, W)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + pool.positional_embedding.to(x.dtype)
        q, k, v = (
            F.linear(x, layer.weight, layer.bias).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
        )  # (B, heads, 1 + P, W / heads)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return F.linear(x, pool.c_proj.weight, pool.c_proj.bias)


def _block(block: nn.Module, x: Tensor, queries: int | None = None) -> Tensor:
    """A residual attention block: (B, S, W) -> (B, S, W), or only the first `queries` of its S outputs."""
    attn, W, normed = block.attn, x.shape[-1], norm(block.ln_1, x)
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    if queries is None:
        q, k, v = F.linear(normed, weight, bias).chunk(3, -1)
    else:
        x = x[:, :queries]
        q = F.linear(normed[:, :queries], weight[:W], bias[:W])
        k, v = F.linear(normed, weight[W:], bias[W:]).chunk(2, -1)
    q, k, v = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # (B, h, S, W / h)
    seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x + block.ls_1(F.linear(seen, attn.out_proj.weight, attn.out_proj.bias))
    return x + block.ls_2(mlp(block.mlp, norm(block.ln_2, x)))


def size_error(name: str, size: int, found: tuple[int, ...]) -> str:
    """The text for images (or INPUT.SIZE) that do not fit a backbone."""
    return (
        f"INPUT.SIZE is {tuple(found)}, but backbone {name or 'of the given weights'} takes images of "
        f'{size} x {size} pixels: set INPUT.SIZE "({size}, {size})" or choose another backbone.'
    )
