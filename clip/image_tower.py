"""Images -> joint features: local tokens on request, and prompts among the tokens of a ViT.

Attention knows no order, so prompts are further keys and values of a layer. Where the next layer replaces them, their
own outputs are never computed; those of a group of images that take the same ones are projected once for the group.
Autograd keeps what it needs to reach the prompts and nothing else: weights are frozen, and what comes before the first
prompt has no graph.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from dassl.config import declare
from dassl.utils import UserError

from .layers import at_least_fp32, mlp, norm
from .model import CLIP, is_plain_block

declare(
    "MODEL.IMAGE_CHECKPOINT",
    False,
    help="with prompts in the image tower: compute a layer's activations again in the backward pass, to save memory",
)


@dataclass
class VisualPrompts:
    """K tokens that images take into layers `first` ... `first` + I - 1 of a ViT (counted from 0), in G groups.

    They stand after [CLS], without positions. Those of each layer replace what became of those before; after the last
    of the I layers they go on through the tower. So I = 1 are shallow prompts, I = all layers deep ones.

    tokens (G, I, K, W).
    group (B,): which group each image takes. None with G = 1 (all take the same) or G = B (each its own).
    first: layer of the first prompts.
    dropout: share of their numbers that is set to zero, drawn for each image by itself; 0 in evaluation.
    """

    tokens: Tensor
    group: Tensor | None = None
    first: int = 0
    dropout: float = 0.0

    def at(self, layer: int) -> Tensor | None:
        """(G, K, W) that enter at `layer`, or None."""
        return self.tokens[:, layer - self.first] if 0 <= layer - self.first < self.tokens.shape[1] else None

    def dropped(self, images: int) -> VisualPrompts:
        """With dropout done, which gives each of B = `images` images prompts of its own; these where there is none."""
        if self.dropout == 0:
            return self
        tokens = F.dropout(_rows(self.tokens, self.group, images), self.dropout)
        return VisualPrompts(tokens, None, self.first)


class ImageTower:
    """The frozen image tower of `clip`: (B, 3, H, W) -> (B, d), with `local=True` also the local tokens (B, P, d).

    Local tokens are the outputs of a ResNet's attention pool at every position, or a ViT's patch outputs through its
    final LayerNorm and projection. `prompts` need a ViT that reads [CLS].

    `checkpoint`: of prompted layers only the inputs are kept, the rest is computed again in the backward pass.
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
    def _reads_class_token(self) -> bool:
        v = self.visual
        return (
            self.is_vit and v.attn_pool is None and v.pool_type == "tok" and is_plain_block(v.transformer.resblocks[-1])
        )

    def require_prompts(self) -> tuple[int, int, int]:
        """(layers, W, pixels of a patch's side) of a tower that takes prompts. Raises UserError for another one."""
        if not self._reads_class_token:
            raise UserError(prompt_error(self.clip.name, type(self.visual).__name__))
        weight = self.visual.conv1.weight  # (W, 3, patch, patch)
        return len(self.visual.transformer.resblocks), weight.shape[0], weight.shape[-1]

    def __call__(
        self,
        images: Tensor,
        local: bool = False,
        prompts: VisualPrompts | None = None,
        attention: Collection[int] = (),
    ) -> Tensor | tuple[Tensor, ...]:
        """Features (B, d); with `local` (features, local tokens (B, P, d)).

        With `attention`, layers counted from 0, the last element of a tuple is {layer: weights (B, h, S, S)} of every
        token (rows) on every token, S = 1 + K + P: [CLS], prompts, patches. They carry no gradient.

        Raises UserError for images of another size than the backbone's, prompts of another width or for more layers
        than there are, and for a tower that does not take prompts.
        """
        if images.shape[-2:] != (self.size, self.size):
            raise UserError(size_error(self.clip.name, self.size, tuple(images.shape[-2:])))
        if prompts is not None or attention:
            self._check(images, prompts, attention)
        if self._reads_class_token:
            images = images.to(self.visual.conv1.weight.dtype)
            feature, tokens, seen = self._tokens(images, local, prompts, attention)
            found = [feature, *([tokens] if local else []), *([seen] if attention else [])]
            return tuple(found) if len(found) > 1 else feature
        images = images.to(self.clip.dtype)
        if not local:
            return self.visual(images)
        if not isinstance(self.visual, ModifiedResNet):
            raise UserError(
                f"Backbone {self.clip.name} has no local tokens: its image tower is a {type(self.visual).__name__}."
            )
        tokens = self._attention_pool(images)
        return tokens[:, 0], tokens[:, 1:]

    def _check(self, images: Tensor, prompts: VisualPrompts | None, attention: Collection[int]) -> None:
        layers, W, _ = self.require_prompts()
        if wrong := [layer for layer in attention if not 0 <= layer < layers]:
            raise UserError(f"Attention of layer {wrong[0]}: the image tower has layers 0 to {layers - 1}.")
        if prompts is None:
            return
        G, count, _, width = prompts.tokens.shape
        if width != W:
            raise UserError(f"Visual prompts of width {width}: the image tower has width {W}.")
        if prompts.first < 0 or prompts.first + count > layers:
            raise UserError(
                f"Visual prompts for layers {prompts.first} to {prompts.first + count - 1}: the image tower has layers "
                f"0 to {layers - 1}."
            )
        if prompts.group is None and G not in (1, len(images)):
            raise UserError(f"{G} groups of visual prompts for {len(images)} images: say which group each image takes.")

    def _tokens(
        self, images: Tensor, local: bool, prompts: VisualPrompts | None, attention: Collection[int]
    ) -> tuple[Tensor, Tensor | None, dict[int, Tensor]]:
        """Feature (B, d), with `local` the tokens (B, P, d), and the attention asked for, of a ViT.

        Of the last layer only the class token's output is computed, unless the local ones are needed.
        """
        v, seen = self.visual, {}
        x = v._embeds(images)  # (B, 1 + P, W): [CLS], patches; prompts that go on come last
        (B, tokens, _), blocks = x.shape, v.transformer.resblocks
        if prompts is None or 0 in prompts.tokens.shape[1:3]:
            prompts = VisualPrompts(x.new_zeros(1, 0, 0, x.shape[-1]))
        prompts = prompts.dropped(B)
        for i, block in enumerate(blocks):
            new = prompts.at(i)
            new = None if new is None else new.to(x.dtype)
            last = i + 1 == len(blocks)
            if i in attention:
                others = x[:, tokens:] if new is None else _rows(new, prompts.group, B)
                seen[i] = _attention_weights(block, torch.cat([x[:, :1], others, x[:, 1:tokens]], 1))
            queries = 1 if last and not local else tokens if last and x.shape[1] > tokens else None
            go_on = not last and new is not None and prompts.at(i + 1) is None
            x = self._layer(block, x, queries, new, prompts.group, go_on)
        x = norm(v.ln_post, x if local else x[:, 0])
        x = x if v.proj is None else x @ v.proj
        return (x[:, 0], x[:, 1:], seen) if local else (x, None, seen)

    def _layer(self, block: nn.Module, x: Tensor, queries: int | None, new: Tensor | None, *rest) -> Tensor:
        """`_block`, by way of checkpoints where that is set and there is something to keep."""
        grows = torch.is_grad_enabled() and (x.requires_grad or (new is not None and new.requires_grad))
        if not (self.checkpoint and grows):
            return _block(block, x, queries, new, *rest)
        return torch.utils.checkpoint.checkpoint(
            _block, block, x, queries, new, *rest, use_reentrant=False, preserve_rng_state=False
        )

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


def _rows(x: Tensor, group: Tensor | None, images: int) -> Tensor:
    """What each of B = `images` images takes of x (G, ...): (B, ...)."""
    return x.expand(images, *x.shape[1:]) if group is None else x.index_select(0, group)


def _block(
    block: nn.Module,
    x: Tensor,
    queries: int | None = None,
    prompts: Tensor | None = None,
    group: Tensor | None = None,
    go_on: bool = False,
) -> Tensor:
    """A residual attention block: (B, S, W) -> (B, S, W), or only the first `queries` of its S outputs.

    `prompts` (G, K, W) are seen as well, by each image those of its `group` (B,); with `go_on` their own outputs come
    after the others: (B, S + K, W).
    """
    attn, W, normed = block.attn, x.shape[-1], norm(block.ln_1, x)
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    if queries is None and prompts is None:
        q, k, v = F.linear(normed, weight, bias).chunk(3, -1)
    else:
        x = x[:, :queries]
        q = F.linear(normed[:, :queries], weight[:W], bias[:W])
        kv = F.linear(normed, weight[W:], bias[W:])
        if prompts is not None:
            own = norm(block.ln_1, prompts)
            kv = torch.cat([kv, _rows(F.linear(own, weight[W:], bias[W:]), group, len(x))], 1)
            if go_on:
                q = torch.cat([q, _rows(F.linear(own, weight[:W], bias[:W]), group, len(x))], 1)
                x = torch.cat([x, _rows(prompts, group, len(x))], 1)
        k, v = kv.chunk(2, -1)
    q, k, v = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # (B, h, S, W / h)
    seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x + block.ls_1(F.linear(seen, attn.out_proj.weight, attn.out_proj.bias))
    return x + block.ls_2(mlp(block.mlp, norm(block.ln_2, x)))


@torch.no_grad()
def _attention_weights(block: nn.Module, x: Tensor) -> Tensor:
    """Softmax of a block's attention, in fp32: (B, S, W) -> (B, h, S, S)."""
    attn, W = block.attn, x.shape[-1]
    qk = F.linear(norm(block.ln_1, x), attn.in_proj_weight[: 2 * W], attn.in_proj_bias[: 2 * W])
    q, k = (t.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for t in qk.chunk(2, -1))
    return torch.softmax(at_least_fp32(q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5, -1)


def size_error(name: str, size: int, found: tuple[int, ...]) -> str:
    """The text for images (or INPUT.SIZE) that do not fit a backbone."""
    return (
        f"INPUT.SIZE is {tuple(found)}, but backbone {name or 'of the given weights'} takes images of "
        f'{size} x {size} pixels: set INPUT.SIZE "({size}, {size})" or choose another backbone.'
    )


def prompt_error(name: str, kind: str) -> str:
    """The text for a backbone whose image tower, of class or kind `kind`, takes no prompts."""
    return (
        f"MODEL.BACKBONE.NAME {name or 'of the given weights'}: prompts in the image tower need a ViT that reads "
        f"[CLS], found {kind}; choose ViT-B/16, ViT-B/32, ViT-L/14, tiny or such a ViT of open_clip"
    )
