"""Encode images into joint features: with local tokens on request, and with a method's additions to a ViT.

Attention ignores order, so added tokens are additional keys and values of a layer. If the next layer replaces the
tokens, their outputs are not computed. Images of one group share the same tokens, which are projected once per group.
Autograd keeps only the tensors that it needs to reach the additions: weights are frozen, and layers before the first
addition have no graph.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from dassl.config import declare
from dassl.utils import UserError

from .additions import Additions, Change, drop, is_recorded, rows_of
from .layers import at_least_fp32, finish_block, linear, norm
from .model import CLIP, is_plain_block

declare(
    "MODEL.IMAGE_CHECKPOINT",
    False,
    help="with additions to the image tower: recompute a layer's activations in the backward pass, to save memory",
)


class ImageTower:
    """The frozen image tower of `clip`: (B, 3, H, W) -> (B, d).

    Local tokens are the outputs of a ResNet's attention pool at every position, or a ViT's patch outputs after its
    final LayerNorm and projection; they require a ViT that uses the [CLS] output. Tokens and low-rank changes require a
    ViT of open_clip, which may pool its outputs otherwise (CLIPA, CoCa). Features exist for every tower.

    `checkpoint`: keep only the inputs of layers with additions; recompute the rest in the backward pass.
    """

    def __init__(self, clip: CLIP, checkpoint: bool = False):
        self.clip, self.checkpoint = clip, checkpoint
        self.visual = clip.visual
        self.size = clip.visual.input_resolution
        self.output_dim = clip.visual.output_dim

    @property
    def is_vit(self) -> bool:
        return isinstance(self.visual, VisionTransformer)

    @property
    def _takes_additions(self) -> bool:
        return self.is_vit and all(map(is_plain_block, self.visual.transformer.resblocks))

    @property
    def _reads_class_token(self) -> bool:
        return self._takes_additions and self.visual.attn_pool is None and self.visual.pool_type == "tok"

    def require_prompts(self) -> tuple[int, int, int]:
        """Return (layers, W, side of a patch in pixels). Raises UserError if the tower does not support prompts."""
        if not self._takes_additions:
            raise UserError(prompt_error(self.clip.name, type(self.visual).__name__))
        weight = self.visual.conv1.weight  # (W, 3, patch, patch)
        return len(self.visual.transformer.resblocks), weight.shape[0], weight.shape[-1]

    def projection(self) -> tuple[Tensor, Tensor | None]:
        """Copies of the last projection: (weight (W, d), bias (d,) or None), in fp32.

        A feature (B, d) is x @ weight + bias for the unprojected feature x (B, W): a ViT's class token after the last
        LayerNorm, or the output of a ResNet's attention pool before its output projection. Raises UserError for a tower
        without it.
        """
        self._require_projection()
        if isinstance(self.visual, ModifiedResNet):
            layer = self.visual.attnpool.c_proj
            return layer.weight.detach().t().float().clone(), layer.bias.detach().float().clone()
        return self.visual.proj.detach().float().clone(), None

    def _require_projection(self) -> None:
        if isinstance(self.visual, ModifiedResNet) or (self._reads_class_token and self.visual.proj is not None):
            return
        raise UserError(output_error(self.clip.name, "features before a last projection", type(self.visual).__name__))

    def check(
        self, added: Additions, attention: Collection[int] = (), count: int | None = None, start: int = 0
    ) -> None:
        """Raise UserError for additions that do not fit this tower, and for layers in `attention` that do not exist."""
        kept = added.tokens is not None and added.tokens.keep
        if added.unprojected:
            self._require_projection()
            if added.local:
                raise UserError("Additions with local and unprojected: ask for one of the two outputs.")
        if added.alters or attention or kept:
            layers, W, _ = self.require_prompts()
            if wrong := [layer for layer in attention if not 0 <= layer < layers]:
                raise UserError(f"Attention of layer {wrong[0]}: the image tower has layers 0 to {layers - 1}.")
            hidden = self.visual.transformer.resblocks[0].mlp.c_fc.out_features
            added.check("image", layers, W, hidden, count, start)
        if self._reads_class_token or (added.local and not kept and isinstance(self.visual, ModifiedResNet)):
            return
        if added.local or kept:
            what = "local tokens" if added.local else "outputs of prompt tokens"
            raise UserError(output_error(self.clip.name, what, type(self.visual).__name__))

    @torch.no_grad()
    def before(self, images: Tensor, layer: int) -> Tensor:
        """Tokens (B, 1 + P, W), [CLS] and patches, that have passed the layers before `layer`."""
        self.require_prompts()
        x = self.visual._embeds(images.to(self.visual.conv1.weight.dtype))
        for block in self.visual.transformer.resblocks[:layer]:
            x = _block(block, x)
        return x

    def __call__(
        self, images: Tensor, added: Additions | None = None, attention: Collection[int] = (), start: int = 0
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute image features (B, d) with the additions of a method.

        With `start` > 0, `images` are the tokens of `before(images, start)`, and the tower begins with layer `start`.

        Returns a tuple if more outputs are requested, in this order:
        - the features (B, d), or with `added.unprojected` (B, W);
        - with `added.local`, the local tokens (B, P, d);
        - with kept tokens, their outputs (B, K, W) after the last LayerNorm, not projected;
        - with `attention`, a collection of layers counted from 0, {layer: weights (B, h, S, S)} without gradient. Rows
          attend to columns; S = 1 + K + P: [CLS], tokens, patches.

        Raises UserError for images whose size differs from the backbone's, and for additions that do not fit the tower.
        """
        if not start and images.shape[-2:] != (self.size, self.size):
            raise UserError(size_error(self.clip.name, self.size, tuple(images.shape[-2:])))
        added = added or Additions()
        self.check(added, attention, images.shape[0], start)
        if self._reads_class_token or start or added.alters or attention:
            found = self._tokens(images.to(self.visual.conv1.weight.dtype), added, attention, start)
            return found if len(found) > 1 else found[0]
        if not added.local and not added.unprojected:
            return self.clip.encode_image(images)
        images = images.to(self.clip.dtype)
        pooled, project = self._attention_pool(images), self.visual.attnpool.c_proj
        if added.unprojected:
            return pooled[:, 0]
        tokens = F.linear(pooled, project.weight, project.bias)
        return tokens[:, 0], tokens[:, 1:]

    def _tokens(self, images: Tensor, added: Additions, attention: Collection[int], start: int) -> tuple:
        """Outputs of `__call__` for a ViT. In the last layer, only the outputs that are used are computed."""
        v, seen = self.visual, {}
        x = (
            images if start else v._embeds(images)
        )  # (B, 1 + P, W): [CLS], patches; tokens that pass on to the next layer come last
        (B, count, _), blocks, tokens, group = x.shape, v.transformer.resblocks, added.tokens, added.group
        if tokens is not None and 0 in tokens.values.shape[1:3]:
            tokens = None
        group_of_tokens = group if tokens is not None and len(tokens.values) > 1 else None
        if tokens is not None and (added.grouped_changes or tokens.dropout):  # every image gets its own tokens
            values = drop(rows_of(tokens.values, group_of_tokens, B), tokens.dropout)
            tokens, group_of_tokens = replace(tokens, values=values), None
        rows, every = None, added.local or not self._reads_class_token  # every: all outputs of the last layer are used
        if added.grouped_changes:
            rows = torch.arange(B, device=x.device)[:, None] if group is None else group[:, None]
        for i, block in list(enumerate(blocks))[start:]:
            new, own, last = None if tokens is None else tokens.at(i), group_of_tokens, i + 1 == len(blocks)
            change, go_on, queries = added.at(i, rows), False, None
            if new is not None:
                new = new.to(x.dtype)
                if i == 0 and tokens.normed:
                    new = v.ln_pre(new)
                if tokens.share < 1 and x.shape[1] > count:
                    new, own = tokens.share * rows_of(new, own, B) + (1 - tokens.share) * x[:, count:], None
                x = x[:, :count]
                go_on = tokens.keep if last else tokens.share < 1 or i + 1 not in tokens.layers
            if i in attention:
                others = x[:, count:] if new is None else rows_of(new, own, B)
                seen[i] = _attention_weights(block, torch.cat([x[:, :1], others, x[:, 1:count]], 1), change)
            if last and (x.shape[1] == count or not tokens.keep):  # number of outputs used, besides new tokens
                queries = 1 if not every else count if x.shape[1] > count else None
            x = self._layer(block, x, change, queries, new, own, go_on)
        if not self._reads_class_token:
            pooled = v._pool(x[:, :count])[0]
            found = (pooled if v.proj is None else pooled @ v.proj,)
            return (*found, seen) if attention else found
        kept = tokens is not None and tokens.keep
        x = norm(v.ln_post, x if added.local or kept else x[:, 0])
        feature, K = x[:, 0] if x.ndim == 3 else x, tokens.values.shape[2] if kept else 0
        found = [feature if v.proj is None or added.unprojected else feature @ v.proj]
        if added.local:
            local = x[:, 1:count]
            found.append(local if v.proj is None else local @ v.proj)
        if kept:
            found.append(x[:, -K:])
        return (*found, seen) if attention else tuple(found)

    def _layer(self, block: nn.Module, x: Tensor, change: Change | None, queries: int | None, new, *rest) -> Tensor:
        """Apply `_block`, with checkpointing if it is enabled and autograd records the layer."""
        learned = [part for each in change.parts.values() for part in (each.down, each.up)] if change else []
        if not (self.checkpoint and is_recorded(x, new, *learned)):
            return _block(block, x, change, queries, new, *rest)
        random = bool(change) and any(each.dropout for each in change.parts.values())
        return torch.utils.checkpoint.checkpoint(
            _block, block, x, change, queries, new, *rest, use_reentrant=False, preserve_rng_state=random
        )

    def _attention_pool(self, images: Tensor) -> Tensor:
        """All outputs of the ResNet's attention pool before its projection, the pooled one first: (B, 1 + P, W)."""
        v, pool = self.visual, self.visual.attnpool
        x = v.layer4(v.layer3(v.layer2(v.layer1(v.stem(images)))))  # (B, W, h, w)
        x = x.flatten(2).transpose(1, 2)  # (B, P, W)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + pool.positional_embedding.to(x.dtype)
        q, k, v = (
            F.linear(x, layer.weight, layer.bias).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
        )  # (B, heads, 1 + P, W / heads)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _block(
    block: nn.Module,
    x: Tensor,
    change: Change | None = None,
    queries: int | None = None,
    tokens: Tensor | None = None,
    group: Tensor | None = None,
    go_on: bool = False,
) -> Tensor:
    """Apply a residual attention block: (B, S, W) -> (B, S, W), or only the first `queries` of its S outputs.

    Each image also attends to the `tokens` (G, K, W) of its `group` (B,). With `go_on`, the outputs of the tokens are
    computed and come after the others: (B, S + K, W).
    """
    attn, W, normed = block.attn, x.shape[-1], norm(block.ln_1, x)
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    if queries is None and tokens is None:
        q, k, v = linear(normed, weight, bias, change, "q", "k", "v").chunk(3, -1)
    else:
        x = x[:, :queries]
        q = linear(normed[:, :queries], weight[:W], bias[:W], change, "q")
        kv = linear(normed, weight[W:], bias[W:], change, "k", "v")
        if tokens is not None:
            own = norm(block.ln_1, tokens)
            kv = torch.cat([kv, rows_of(linear(own, weight[W:], bias[W:], change, "k", "v"), group, x.shape[0])], 1)
            if go_on:
                q = torch.cat([q, rows_of(linear(own, weight[:W], bias[:W], change, "q"), group, x.shape[0])], 1)
                x = torch.cat([x, rows_of(tokens, group, x.shape[0])], 1)
        k, v = kv.chunk(2, -1)
    return finish_block(block, x, q, k, v, change)


@torch.no_grad()
def _attention_weights(block: nn.Module, x: Tensor, change: Change | None = None) -> Tensor:
    """Attention weights of a block in fp32: (B, S, W) -> (B, h, S, S)."""
    attn, W = block.attn, x.shape[-1]
    qk = linear(norm(block.ln_1, x), attn.in_proj_weight[: 2 * W], attn.in_proj_bias[: 2 * W], change, "q", "k")
    q, k = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in qk.chunk(2, -1))
    return torch.softmax(at_least_fp32(q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5, -1)


def size_error(name: str, size: int, found: tuple[int, ...]) -> str:
    """Error text for images (or INPUT.SIZE) that do not fit a backbone."""
    return (
        f"INPUT.SIZE is {tuple(found)}, but backbone {name or 'of the given weights'} expects images of "
        f'{size} x {size} pixels: set INPUT.SIZE "({size}, {size})" or choose another backbone.'
    )


def prompt_error(name: str, kind: str) -> str:
    """Error text for a backbone whose image tower, of class or kind `kind`, does not support prompts."""
    return (
        f"MODEL.BACKBONE.NAME {name or 'of the given weights'}: additions to the image tower need a ViT of open_clip, "
        f"found {kind}; choose ViT-B/16, ViT-B/32, ViT-L/14, tiny or a similar backbone (python -m clip.backbones)"
    )


def output_error(name: str, what: str, kind: str) -> str:
    """Error text for a backbone whose image tower, of class or kind `kind`, lacks the outputs `what`."""
    return (
        f"MODEL.BACKBONE.NAME {name or 'of the given weights'}: its image tower ({kind}) gives no {what}, which this "
        "method needs; choose a ViT or ResNet of CLIP, such as ViT-B/16 or RN50"
    )
