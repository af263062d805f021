"""Prompts -> text features, computing each token once.

CLIP's text transformer is causal and only its [EOS] output is used. So nothing after [EOS] is computed, and prompts
that begin with the same tokens ([SOS] + context) share them: the shared prefix goes through every layer once per group,
and each prompt's own tokens attend to the prefix's keys and values. Both are exact, forward and backward.

All tokens that exist form one packed matrix (R, D): first the prefixes, group by group, then the suffixes without
padding. LayerNorms, projections and MLP, nearly all of the work, run on that matrix; only attention sees padded views.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.utils import UserError

from .model import CLIP, project


@dataclass
class Prompts:
    """N prompts as token embeddings without positions, in G groups of prompts that begin with the same P tokens.

    prefix (G, P, D): the shared beginnings, [SOS] first; P >= 1.
    suffix (N, S, D): what follows, [EOS] last, padded to the longest.
    group (N,): which prefix each prompt begins with.
    length (N,): tokens of each suffix up to and including [EOS].
    """

    prefix: Tensor
    suffix: Tensor
    group: Tensor
    length: Tensor

    @property
    def num_tokens(self) -> int:
        """Tokens the tower computes for these prompts."""
        return self.prefix.shape[0] * self.prefix.shape[1] + int(self.length.sum())


class TextTower:
    """The frozen text transformer of `clip`, callable on `Prompts` -> (N, d).

    Gradients flow to the prompts' embeddings, never to the tower. Raises UserError for models whose text tower is not
    causal or not read at [EOS] (SigLIP, Hugging Face towers): a wrong number is worse than none.
    """

    def __init__(self, clip: CLIP):
        if clip.text_unsupported:
            raise UserError(f"Backbone {clip.name} cannot take prompts: {clip.text_unsupported}.")
        self.clip = clip
        self.blocks = clip.transformer.resblocks
        self.heads = self.blocks[0].attn.num_heads
        self.width = clip.token_embedding.embedding_dim  # D
        self.context_length = clip.context_length
        projection = clip.text_projection
        if projection is None:
            self.output_dim = self.width
        else:
            self.output_dim = projection.out_features if isinstance(projection, nn.Module) else projection.shape[1]

    @property
    def device(self) -> torch.device:
        return self.clip.positional_embedding.device

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (…) -> embeddings (…, D) in fp32, without positions."""
        return self.clip.token_embedding(ids.to(self.device)).float()

    def texts(self, texts: list[str]) -> Prompts:
        """Plain token prompts for `texts`, sharing the beginning all of them have in common. One group."""
        from .clip import tokenize

        try:
            ids = tokenize(list(texts), self.context_length)  # (N, 77)
        except RuntimeError as error:
            raise UserError(f"{error}; shorten the text.") from None
        length = ids.argmax(-1) + 1  # [EOS] has the largest id
        limit = int(length.min()) - 1
        same = (ids[:, :limit] == ids[:1, :limit]).all(0).long().cumprod(0)
        shared = max(int(same.sum()), 1)
        table = self.embed(ids[:, : int(length.max())])  # (N, P + S, D)
        group = torch.zeros(len(ids), dtype=torch.long, device=self.device)
        return Prompts(table[:1, :shared], table[:, shared:], group, (length - shared).to(self.device))

    @torch.no_grad()
    def encode(self, texts: list[str], batch: int = 512) -> Tensor:
        """Frozen features of plain texts: N strings -> (N, d)."""
        return torch.cat([self(self.texts(texts[start : start + batch])) for start in range(0, len(texts), batch)])

    def __call__(self, prompts: Prompts) -> Tensor:
        """(N, d), not normalised. Raises UserError for prompts longer than the tower's context."""
        prefix, suffix, group, length = prompts.prefix, prompts.suffix, prompts.group, prompts.length
        P = prefix.shape[1]
        longest = int(length.max())
        if P + longest > self.context_length:
            raise UserError(
                f"A prompt of {P + longest} tokens does not fit the context of {self.context_length}: "
                "use fewer context tokens (N_CTX) or a shorter class name."
            )
        restore = None
        if len(group) > 1 and bool((group[1:] < group[:-1]).any()):  # attention wants a group's prompts side by side
            order = group.argsort(stable=True)
            restore = order.argsort()
            suffix, group, length = suffix[order], group[order], length[order]
        dtype = self.clip.dtype
        layout = _Layout(prefix.shape[:2], longest, group, length, self.heads, dtype)
        position = self.clip.positional_embedding.float()
        x = torch.cat(
            [
                (prefix + position[:P]).flatten(0, 1),
                (suffix[:, :longest] + position[P : P + longest]).flatten(0, 1)[layout.real],
            ]
        ).to(dtype)  # (R, D)
        for block in self.blocks:
            x = x + block.ls_1(_attention(block.attn, _norm(block.ln_1, x), layout))
            x = x + block.ls_2(_mlp(block.mlp, _norm(block.ln_2, x)))
        features = project(_norm(self.clip.ln_final, x[layout.eos]), self.clip.text_projection)
        return features if restore is None else features[restore]


class _Layout:
    """Where the tokens of packed prompts stand, computed once per call and used by every layer."""

    def __init__(
        self, prefix: tuple[int, int], longest: int, group: Tensor, length: Tensor, heads: int, dtype: torch.dtype
    ):
        self.G, self.P = prefix
        self.N, self.S = len(length), longest
        self.heads = heads
        device = length.device
        step = torch.arange(self.S, device=device)
        real = step < length[:, None]  # (N, S)
        self.real = real.flatten().nonzero()[:, 0]  # (M,) rows of the padded suffixes that exist
        per_group = torch.zeros(self.G, dtype=torch.long, device=device).index_add_(0, group, length)
        self.tokens = per_group.tolist()  # suffix tokens of each group
        self.even = len(set(self.tokens)) == 1  # then one batched product serves all groups
        self.eos = self.G * self.P + length.cumsum(0) - 1  # packed position of each [EOS]
        # added to scores: -inf where a token would look ahead
        self.ahead = torch.full((self.S, self.S), float("-inf"), device=device, dtype=dtype).triu(1)
        self.prefix_ahead = torch.full((self.P, self.P), float("-inf"), device=device, dtype=dtype).triu(1)

    def padded(self, x: Tensor) -> Tensor:
        """Packed suffix rows (M, h, e) -> (N, h, S, e), zeros where no token is."""
        full = x.new_zeros(self.N * self.S, *x.shape[1:]).index_copy(0, self.real, x)
        return full.view(self.N, self.S, *x.shape[1:]).transpose(1, 2)

    def packed(self, x: Tensor) -> Tensor:
        """(N, h, S, e) -> (M, h, e)."""
        return x.transpose(1, 2).flatten(0, 1)[self.real]

    def per_group(self, x: Tensor, y: Tensor) -> Tensor:
        """Rows of each group times that group's matrix: x (h, M, a), y (G, h, a, b) -> (h, M, b)."""
        if self.even:
            h, _, a = x.shape
            return (x.view(h, self.G, -1, a) @ y.transpose(0, 1)).flatten(1, 2)
        return torch.cat([rows @ matrix for rows, matrix in zip(x.split(self.tokens, 1), y, strict=True)], 1)


def _attention(attn: nn.MultiheadAttention, x: Tensor, layout: _Layout) -> Tensor:
    """Causal self-attention of packed prompts: x (R, D) -> (R, D)."""
    h, G, P = layout.heads, layout.G, layout.P
    q, k, v = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).unflatten(-1, (3, h, -1)).unbind(1)  # each (R, h, e)
    q = q * q.shape[-1] ** -0.5
    head = [t[: G * P].unflatten(0, (G, P)).transpose(1, 2) for t in (q, k, v)]  # (G, h, P, e)
    prefix_out = _softmax(head[0] @ head[1].transpose(-1, -2) + layout.prefix_ahead) @ head[2]  # (G, h, P, e)
    prefix_out = prefix_out.transpose(1, 2).flatten(0, 1)

    q, k, v = (t[G * P :] for t in (q, k, v))  # (M, h, e)
    to_prefix = layout.per_group(q.transpose(0, 1), head[1].transpose(-1, -2))  # (h, M, P)
    to_prefix = layout.padded(to_prefix.transpose(0, 1))  # (N, h, S, P)
    to_suffix = layout.padded(q) @ layout.padded(k).transpose(-1, -2) + layout.ahead  # (N, h, S, S)
    weights = _softmax(torch.cat([to_prefix, to_suffix], -1))  # (N, h, S, P + S)
    suffix_out = layout.packed(weights[..., P:] @ layout.padded(v))  # (M, h, e)
    from_prefix = layout.packed(weights[..., :P]).transpose(0, 1)  # (h, M, P)
    suffix_out = suffix_out + layout.per_group(from_prefix, head[2]).transpose(0, 1)
    out = torch.cat([prefix_out, suffix_out]).flatten(1)  # (R, D)
    return F.linear(out.to(x.dtype), attn.out_proj.weight, attn.out_proj.bias)


def _softmax(scores: Tensor) -> Tensor:
    """In fp32, back in the scores' type: half precision loses the small weights otherwise."""
    return scores.float().softmax(-1).to(scores.dtype)


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm in fp32 whatever the tower's precision."""
    return F.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps).to(x.dtype)


class _QuickGELU(torch.autograd.Function):
    """x * sigmoid(1.702 x), keeping only x for the backward pass instead of three tensors of the MLP's width."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sigmoid(1.702 * x).mul_(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(1.702 * x)
        return grad * torch.addcmul(gate, gate * (1 - gate), x, value=1.702)


def _mlp(mlp: nn.Sequential, x: Tensor) -> Tensor:
    """c_fc, activation, c_proj on (R, D)."""
    hidden = mlp.c_fc(x)
    quick = type(mlp.gelu).__name__ == "QuickGELU"
    return mlp.c_proj(_QuickGELU.apply(hidden) if quick else mlp.gelu(hidden))
