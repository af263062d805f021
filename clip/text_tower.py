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
import torch.utils.checkpoint
from torch import Tensor, nn

from dassl.config import at_least, declare
from dassl.utils import UserError

from .layers import at_least_fp32, mlp, norm
from .model import CLIP, project

declare("MODEL.TEXT_CHUNK", 0, allowed=at_least(0), help="prompts encoded at a time, to bound memory; 0: all at once")


@dataclass
class Prompts:
    """N prompts as token embeddings without positions, in G groups of prompts that begin with the same P tokens.

    prefix (G, P, D): the shared beginnings, [SOS] first; P >= 1.
    suffix (N, S, D): what follows, [EOS] last, padded to the longest.
    group (N,): which prefix each prompt begins with.
    length (N,): tokens of each suffix up to and including [EOS].
    deep (G, I, K, D), optional: before layer i = 1 … I the K tokens after [SOS] are replaced by deep[:, i - 1].
    """

    prefix: Tensor
    suffix: Tensor
    group: Tensor
    length: Tensor
    deep: Tensor | None = None

    def part(self, start: int, stop: int) -> Prompts:
        """Prompts start … stop - 1, with only the prefixes they begin with."""
        groups, group = self.group[start:stop].unique(return_inverse=True)
        deep = None if self.deep is None else self.deep[groups]
        length = self.length[start:stop]
        return Prompts(self.prefix[groups], self.suffix[start:stop, : int(length.max())], group, length, deep)

    @property
    def num_tokens(self) -> int:
        """Tokens the tower computes for these prompts."""
        return self.prefix.shape[0] * self.prefix.shape[1] + int(self.length.sum())


class TextTower:
    """The frozen text transformer of `clip`, callable on `Prompts` -> (N, d).

    Gradients flow to the prompts' embeddings, never to the tower. Raises UserError for models whose text tower is not
    causal or not read at [EOS] (SigLIP, Hugging Face towers): a wrong number is worse than none.

    `chunk`: prompts that are encoded at a time, 0 for all. The activations of a chunk are not kept but computed again
    in the backward pass, so memory is bounded whatever N is, for a second forward pass.
    """

    def __init__(self, clip: CLIP, chunk: int = 0):
        if clip.text_unsupported:
            raise UserError(f"Backbone {clip.name} cannot take prompts: {clip.text_unsupported}.")
        self.clip, self.chunk = clip, chunk
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
        return at_least_fp32(self.clip.token_embedding(ids.to(self.device)))

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
        P, longest = prompts.prefix.shape[1], int(prompts.length.max())
        if P + longest > self.context_length:
            raise UserError(
                f"A prompt of {P + longest} tokens does not fit the context of {self.context_length}: "
                "use fewer context tokens (N_CTX) or a shorter class name."
            )
        restore, group = None, prompts.group
        if len(group) > 1 and bool((group[1:] < group[:-1]).any()):  # attention wants a group's prompts side by side
            order = group.argsort(stable=True)
            restore = order.argsort()
            prompts = Prompts(prompts.prefix, prompts.suffix[order], group[order], prompts.length[order], prompts.deep)
        if 0 < self.chunk < len(group):
            parts = [prompts.part(start, start + self.chunk) for start in range(0, len(group), self.chunk)]
            features = torch.cat([self._recomputed(part) for part in parts])
        else:
            features = self._encode(prompts.prefix, prompts.suffix, prompts.group, prompts.length, prompts.deep)
        return features if restore is None else features[restore]

    def _recomputed(self, p: Prompts) -> Tensor:
        tensors = p.prefix, p.suffix, p.group, p.length, p.deep
        return torch.utils.checkpoint.checkpoint(self._encode, *tensors, use_reentrant=False, preserve_rng_state=False)

    def _encode(self, prefix: Tensor, suffix: Tensor, group: Tensor, length: Tensor, deep: Tensor | None) -> Tensor:
        """The pass itself, for prompts whose groups stand side by side: see `Prompts` for the shapes; (N, d)."""
        (G, P, D), longest = prefix.shape, int(length.max())
        dtype = self.blocks[0].mlp.c_fc.weight.dtype
        layout = _Layout(prefix.shape[:2], longest, group, length, self.heads, dtype)
        position = at_least_fp32(self.clip.positional_embedding)
        x = torch.cat(
            [
                (prefix + position[:P]).flatten(0, 1),
                (suffix[:, :longest] + position[P : P + longest]).flatten(0, 1)[layout.real],
            ]
        ).to(dtype)  # (R, D)
        for i, block in enumerate(self.blocks):
            if deep is not None and 1 <= i <= deep.shape[1]:
                old, new = x[: G * P].view(G, P, D), deep[:, i - 1].to(dtype)
                replaced = torch.cat([old[:, :1], new, old[:, 1 + new.shape[1] :]], 1)
                x = torch.cat([replaced.flatten(0, 1), x[G * P :]])
            if i + 1 < len(self.blocks):
                x = x + block.ls_1(_attention(block.attn, norm(block.ln_1, x), layout))
            else:  # of the last layer only the [EOS] outputs are used: (N, D)
                x = x.index_select(0, layout.eos) + block.ls_1(_last_attention(block.attn, norm(block.ln_1, x), layout))
            x = x + block.ls_2(mlp(block.mlp, norm(block.ln_2, x)))
        return project(norm(self.clip.ln_final, x), self.clip.text_projection)


class _Layout:
    """Where the tokens of packed prompts stand, computed once per call and used by every layer."""

    def __init__(
        self, prefix: tuple[int, int], longest: int, group: Tensor, length: Tensor, heads: int, dtype: torch.dtype
    ):
        self.G, self.P = prefix
        self.N, self.S = len(length), longest
        self.heads = heads
        device = length.device
        real = torch.arange(self.S, device=device) < length[:, None]  # (N, S)
        self.real = real.flatten().nonzero()[:, 0]  # (M,) rows of the padded suffixes that exist
        counts = torch.bincount(group, minlength=self.G).tolist()  # prompts of each group
        self.even = len(set(counts)) == 1  # then one batched product serves all groups
        ends = [sum(counts[: g + 1]) for g in range(self.G)]
        self.spans = [(g, end - n, end) for g, (n, end) in enumerate(zip(counts, ends, strict=True)) if n]
        self.eos = self.G * self.P + length.cumsum(0) - 1  # packed position of each [EOS]
        # added to scores: -inf where there is no token, or where one would look ahead
        self.absent = ~real[..., None]  # (N, S, 1)
        self._index: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.after = torch.zeros(real.shape, device=device, dtype=dtype).masked_fill_(~real, float("-inf"))  # (N, S)
        self.ahead = torch.full((self.S, self.S), float("-inf"), device=device, dtype=dtype).triu(1)
        self.prefix_ahead = torch.full((self.P, self.P), float("-inf"), device=device, dtype=dtype).triu(1)

    def _rows(self, parts: int) -> tuple[Tensor, Tensor, Tensor]:
        """Indices that move rows of one head (e numbers) in one go: into prefixes, into suffixes, out of suffixes."""
        if parts not in self._index:
            device, h = self.real.device, self.heads
            each = torch.arange(parts * h, device=device)  # part, then head
            prefix = torch.arange(self.G * self.P, device=device)
            row = torch.zeros(self.N * self.S, dtype=torch.long, device=device)  # an absent token reads row 0
            row[self.real] = self.G * self.P + torch.arange(len(self.real), device=device)
            take = tuple((each[:, None] + rows * parts * h).flatten() for rows in (prefix, row))
            self._index[parts] = (*take, (each * (self.N * self.S) + self.real[:, None]).flatten())
        return self._index[parts]

    def split(self, packed: Tensor, parts: int) -> tuple[Tensor, Tensor]:
        """Rows (R, parts * D) -> prefixes (parts, h, G, P, e), suffixes (parts, h, N, S, e); absent tokens: any row."""
        into_prefix, into_suffix, _ = self._rows(parts)
        rows = packed.reshape(-1, packed.shape[1] // parts // self.heads)
        prefix = rows.index_select(0, into_prefix).view(parts, self.heads, self.G, self.P, -1)
        return prefix, rows.index_select(0, into_suffix).view(parts, self.heads, self.N, self.S, -1)

    def join(self, prefix: Tensor, suffix: Tensor) -> Tensor:
        """The inverse of `split`: (parts, h, G, P, e), (parts, h, N, S, e) -> (R, parts * D)."""
        parts, e = suffix.shape[0], suffix.shape[-1]
        first = self.G * self.P * parts * self.heads
        rows = suffix.new_empty(first + len(self.real) * parts * self.heads, e)
        rows[:first].view(self.G, self.P, parts, self.heads, e).copy_(prefix.permute(2, 3, 0, 1, 4))
        torch.index_select(suffix.reshape(-1, e), 0, self._rows(parts)[2], out=rows[first:])
        return rows.view(-1, parts * self.heads * e)

    def per_group(self, x: Tensor, y: Tensor) -> Tensor:
        """Rows of each group times that group's matrix: x (h, N, S, a), y (h, G, a, b) -> (h, N, S, b)."""
        if self.even:
            return (x.reshape(self.heads, self.G, -1, x.shape[-1]) @ y).view(*x.shape[:-1], -1)
        parts = [x[:, a:b].flatten(1, 2) @ y[:, g] for g, a, b in self.spans]
        return torch.cat(parts, 1).view(*x.shape[:-1], -1)

    def sum_group(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over the rows of each group of outer products: x (h, N, S, a), y (h, N, S, b) -> (h, G, a, b)."""
        if self.even:
            x, y = (t.reshape(self.heads, self.G, -1, t.shape[-1]) for t in (x, y))
            return x.transpose(-1, -2) @ y
        out = x.new_zeros(self.heads, self.G, x.shape[-1], y.shape[-1])
        for g, a, b in self.spans:
            out[:, g] = x[:, a:b].flatten(1, 2).transpose(-1, -2) @ y[:, a:b].flatten(1, 2)
        return out


def _attention(attn: nn.MultiheadAttention, x: Tensor, layout: _Layout) -> Tensor:
    """Causal self-attention of packed prompts: x (R, D) -> (R, D)."""
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)  # (R, 3 D)
    return F.linear(_PrefixAttention.apply(qkv, layout), attn.out_proj.weight, attn.out_proj.bias)


def _last_attention(attn: nn.MultiheadAttention, x: Tensor, layout: _Layout) -> Tensor:
    """Attention of the [EOS] tokens alone, which see all of their prompt: x (R, D) -> (N, D)."""
    D, h = x.shape[1], layout.heads
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    q = F.linear(x.index_select(0, layout.eos), weight[:D], bias[:D]).view(layout.N, 1, h, -1).permute(2, 0, 1, 3)
    (kp, vp), (k, v) = layout.split(F.linear(x, weight[D:], bias[D:]), 2)  # (h, G, P, e), (h, N, S, e)
    q = q * q.shape[-1] ** -0.5  # (h, N, 1, e)
    to_self = q @ k.transpose(-1, -2) + layout.after[:, None]  # (h, N, 1, S)
    weights = _softmax(torch.cat([layout.per_group(q, kp.transpose(-1, -2)), to_self], -1))  # (h, N, 1, P + S)
    out = layout.per_group(weights[..., : layout.P], vp) + weights[..., layout.P :] @ v  # (h, N, 1, e)
    return F.linear(out[:, :, 0].transpose(0, 1).flatten(1), attn.out_proj.weight, attn.out_proj.bias)


class _PrefixAttention(torch.autograd.Function):
    """softmax(q k') v where every prompt sees its group's prefix and its own past: qkv (R, 3 D) -> (R, D).

    Written out with its derivative, because what autograd would keep (padded copies of q, k and v in every layer) is
    several times what is needed: the packed qkv and the weights. Plain matrix products, which take the
    packed layout as it is.
    """

    @staticmethod
    def forward(ctx, qkv: Tensor, layout: _Layout) -> Tensor:
        (qp, kp, vp), (q, k, v) = _PrefixAttention._parts(qkv, layout)
        prefix_weights = _softmax(layout.prefix_ahead + qp @ kp.transpose(-1, -2))  # (h, G, P, P)
        to_prefix = layout.per_group(q, kp.transpose(-1, -2))  # (h, N, S, P)
        weights = _softmax(torch.cat([to_prefix, layout.ahead + q @ k.transpose(-1, -2)], -1))  # (h, N, S, P + S)
        out = layout.per_group(weights[..., : layout.P], vp).add_(weights[..., layout.P :] @ v)
        ctx.save_for_backward(qkv, prefix_weights, weights)
        ctx.layout = layout
        return layout.join((prefix_weights @ vp)[None], out[None])

    @staticmethod
    def backward(ctx, grad: Tensor):
        (qkv, prefix_weights, weights), layout = ctx.saved_tensors, ctx.layout
        (qp, kp, vp), (q, k, v) = _PrefixAttention._parts(qkv, layout)
        (grad_p,), (grad,) = layout.split(grad, 1)  # (h, G, P, e), (h, N, S, e)
        grad.masked_fill_(layout.absent, 0)
        past, own = weights[..., : layout.P], weights[..., layout.P :]

        d_weights = torch.cat([layout.per_group(grad, vp.transpose(-1, -2)), grad @ v.transpose(-1, -2)], -1)
        d_scores = _softmax_backward(d_weights, weights)  # (h, N, S, P + S)
        d_past, d_own = d_scores[..., : layout.P], d_scores[..., layout.P :]
        d_suffix = torch.empty_like(grad[None].expand(3, *grad.shape), memory_format=torch.contiguous_format)
        torch.matmul(d_own, k, out=d_suffix[0]).add_(layout.per_group(d_past, kp)).mul_(q.shape[-1] ** -0.5)
        torch.matmul(d_own.transpose(-1, -2), q, out=d_suffix[1])
        torch.matmul(own.transpose(-1, -2), grad, out=d_suffix[2])
        d_prefix_scores = _softmax_backward(grad_p @ vp.transpose(-1, -2), prefix_weights)
        d_prefix = torch.stack(
            [
                (d_prefix_scores @ kp).mul_(q.shape[-1] ** -0.5),
                (d_prefix_scores.transpose(-1, -2) @ qp).add_(layout.sum_group(d_past, q)),
                (prefix_weights.transpose(-1, -2) @ grad_p).add_(layout.sum_group(past, grad)),
            ]
        )
        return layout.join(d_prefix, d_suffix), None

    @staticmethod
    def _parts(qkv: Tensor, layout: _Layout) -> tuple[Tensor, Tensor]:
        """q, k, v of the prefixes and of the suffixes, with q scaled."""
        prefix, suffix = layout.split(qkv, 3)
        for q in (prefix[0], suffix[0]):
            q.mul_(q.shape[-1] ** -0.5)
        return prefix, suffix


def _softmax(scores: Tensor) -> Tensor:
    """In fp32, back in the scores' type: half precision loses the small weights otherwise."""
    return torch.softmax(at_least_fp32(scores), -1).to(scores.dtype)


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Gradient of the scores from that of the weights."""
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)
