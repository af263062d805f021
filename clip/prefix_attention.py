"""Causal self-attention of prompts with shared beginnings, on one packed matrix of the real tokens.

The rows of a packed matrix (R, …) are the tokens of G prefixes (P tokens each), group by group, then the tokens of N
suffixes without padding. The tokens of a suffix attend to the prefix of their group and to their own past. Forward and
backward pass are exact.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from .additions import Change
from .layers import at_least_fp32, linear

TILE = 48  # approximate tokens per tile: smaller tiles mean more products, larger ones more masked scores


class Layout:
    """Positions of the tokens of packed prompts in the tiles of attention, computed once per call for all layers.

    Attention works on tiles. A tile holds whole sequences of one group (its prefix, some of its suffixes) one after
    another, at most T tokens. The keys of a tile are the group's prefix and the tile's tokens; a mask separates the
    sequences. So even many short prompts need few products, all of the same size, and a prefix is read once per tile
    instead of once per prompt.

    Args:
        prefix: (G, P).
        group: group of each of the N suffixes.
        length: number of tokens of each suffix.
        heads: h.
        dtype: data type of the tower.
        device: device of the tower.
    """

    def __init__(
        self,
        prefix: tuple[int, int],
        group: tuple[int, ...],
        length: tuple[int, ...],
        heads: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        G, P = prefix
        sizes = [P] * G + list(length)  # lengths of the sequences, in packed order
        longest = max(length)
        T = max(P, longest * max(1, TILE // longest))
        owner, first = _fill_tiles(sizes, [*range(G), *group], T)
        self.G, self.P, self.T, self.heads, self.tiles = G, P, T, heads, len(owner)
        self.owner = torch.tensor(owner, device=device)  # (tiles,) group of each tile

        size = torch.tensor(sizes, device=device)
        end = size.cumsum(0)
        row = torch.arange(int(end[-1]), device=device)  # (R,)
        sequence = torch.repeat_interleave(torch.arange(len(sizes), device=device), size)  # (R,)
        slot = torch.tensor(first, device=device)[sequence] + row - (end - size)[sequence]  # (R,) slot of each token
        rows = torch.zeros(self.tiles * T, dtype=torch.long, device=device)  # an empty slot reads row 0
        rows[slot] = row
        keys = torch.cat([row[: G * P].view(G, P)[self.owner], rows.view(self.tiles, T)], 1)  # (tiles, P + T)
        mask = self._mask(slot, sequence).to(dtype)
        self.every = _Queries(heads, keys, mask, slot, parts=3)
        self.key_place = self.every.place(slot, T, P + T, P)  # (R, h)

        real = torch.arange(longest, device=device) < torch.tensor(length, device=device)[:, None]
        self.real = real.flatten().nonzero()[:, 0]  # (M,) indices of the real tokens among the padded suffixes

        # The only queries of the last layer are the [EOS] tokens; the fullest tile has E of them.
        self.eos = end[G:] - 1  # (N,) row of each [EOS]
        tile = slot[self.eos] // T
        counts = torch.bincount(tile, minlength=self.tiles)
        order, E = tile.argsort(stable=True), int(counts.max())
        rank = torch.empty_like(tile)
        rank[order] = torch.arange(len(tile), device=device) - (counts.cumsum(0) - counts)[tile[order]]
        eos_slot, eos_mask = tile * E + rank, mask.new_zeros(self.tiles * E, P + T)
        eos_mask[eos_slot] = mask.flatten(0, 1)[slot[self.eos]]
        self.last = _Queries(heads, keys, eos_mask.view(self.tiles, E, -1), eos_slot, parts=2)

    def _mask(self, slot: Tensor, sequence: Tensor) -> Tensor:
        """Mask (tiles, T, P + T) to add to scores: 0 for the keys that a token attends to, -inf for the others."""
        holder = torch.full((self.tiles * self.T,), -1, device=slot.device)  # the sequence in each slot, -1 if empty
        holder[slot] = sequence
        holder = holder.view(self.tiles, self.T)
        own = ((holder[:, :, None] == holder[:, None, :]) & (holder[:, None, :] >= 0)).tril()
        # Tokens of a prefix find their past in the tile itself. Empty slots attend to the prefix, so that their softmax
        # is finite.
        past = (holder >= self.G) | (holder < 0)
        seen = torch.cat([past[:, :, None].expand(-1, -1, self.P), own], 2)
        return torch.zeros(seen.shape, device=slot.device).masked_fill_(~seen, float("-inf"))


@lru_cache(maxsize=16)
def layout_for(*key) -> Layout:
    """Cached `Layout(*key)`: most steps encode the same classes as the step before."""
    return Layout(*key)


def _fill_tiles(sizes: list[int], groups: list[int], T: int) -> tuple[list[int], list[int]]:
    """Assign sequences to tiles of T slots, one group per tile. Returns groups of tiles, first slots of sequences."""
    owner: list[int] = []
    first: list[int] = []
    filling: dict[int, tuple[int, int]] = {}  # {group: (its last tile, slots used in this tile)}
    for size, group in zip(sizes, groups, strict=True):
        tile, used = filling.get(group, (0, T))
        if used + size > T:
            tile, used = len(owner), 0
            owner.append(group)
        first.append(tile * T + used)
        filling[group] = tile, used + size
    return owner, first


class _Queries:
    """Q tokens as queries, at most E per tile, and the indices that move rows into tiles and back.

    A packed matrix (R, parts D) is treated as R parts h pieces of e numbers, one piece per head. Selecting pieces moves
    tokens to their slots and heads to the front in a single copy. Three parts are q, k and v; two parts are k and v,
    with q in a separate matrix.

    Args:
        heads: h.
        keys: (tiles, P + T) packed row of each key.
        mask: (tiles, E, P + T).
        slot: (Q,) slot of each query, with E slots per tile.
        parts: 3 or 2.
    """

    def __init__(self, heads: int, keys: Tensor, mask: Tensor, slot: Tensor, parts: int):
        (tiles, E, _), device = mask.shape, slot.device
        self.head = torch.arange(heads, device=device)
        self.mask, self.E, self.parts = mask[:, None], E, parts
        query = torch.full((tiles * E,), -1, device=device)
        query[slot] = torch.arange(len(slot), device=device)
        query = query.view(tiles, E)
        self.empty = (query < 0)[:, None].expand(-1, heads, -1).flatten().nonzero()[:, 0]  # pieces without a query
        query = query.clamp(min=0)
        self.from_own = self._pieces(query, 1, 0)  # from a matrix (Q, D)
        self.q = self._pieces(query, 3, 0) if parts == 3 else self.from_own
        self.kv = torch.cat([self._pieces(keys, parts, part) for part in (parts - 2, parts - 1)])
        self.back = self.place(slot, E, E)  # (Q, h)

    def _pieces(self, rows: Tensor, parts: int, part: int) -> Tensor:
        """Indices of the pieces of one part of the rows (tiles, K), in the order (tiles, h, K)."""
        return ((rows[:, None] * parts + part) * self.head.numel() + self.head[:, None]).flatten()

    def place(self, slot: Tensor, slots: int, K: int, start: int = 0) -> Tensor:
        """Indices (Q, h) into (tiles, h, K) of the pieces of `slot` (Q,). Tiles have `slots` slots from `start` on."""
        tile, within = slot[:, None] // slots, slot[:, None] % slots
        return (tile * self.head.numel() + self.head) * K + start + within


class _PrefixAttention(torch.autograd.Function):
    """softmax(q k') v: packed (R, 3 D), or (R, 2 D) with a separate q (Q, D) -> (Q, D).

    The derivative is written out, because autograd would keep several times the necessary memory (q, k and v in tiles,
    in every layer). Only the packed matrix and the weights are needed.
    """

    @staticmethod
    def _tiled(packed: Tensor, q: Tensor | None, use: _Queries, B: int) -> tuple[Tensor, Tensor, Tensor]:
        """Bring q (B, E, e), k and v (B, P + T, e) into tiles; B = tiles * h."""
        e = packed.shape[1] // use.parts // use.head.numel()
        packed = packed.reshape(-1, e)
        k, v = packed.index_select(0, use.kv).view(2, B, -1, e)
        source = packed if q is None else q.reshape(-1, e)
        return source.index_select(0, use.q).view(B, use.E, e), k, v

    @staticmethod
    def forward(ctx, packed: Tensor, own_q: Tensor | None, layout: Layout, use: _Queries) -> Tensor:
        q, k, v = _PrefixAttention._tiled(packed, own_q, use, layout.tiles * layout.heads)
        scores = (q @ k.transpose(1, 2)).view(layout.tiles, layout.heads, use.E, -1)
        # under autocast the mask is fp32 as the tower, but all tensors of the backward pass must have one type
        scores = torch.add(use.mask.to(scores.dtype), scores, alpha=q.shape[-1] ** -0.5)
        # in fp32, because half precision would lose small weights
        weights = torch.softmax(at_least_fp32(scores), -1).to(scores.dtype).flatten(0, 1)  # (B, E, P + T)
        ctx.save_for_backward(packed, own_q, weights)
        ctx.layout, ctx.use = layout, use
        return (weights @ v).flatten(0, 1).index_select(0, use.back.flatten()).view(len(use.back), -1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (packed, own_q, weights), layout, use = ctx.saved_tensors, ctx.layout, ctx.use
        G, P, h = layout.G, layout.P, layout.heads
        q, k, v = _PrefixAttention._tiled(packed, own_q, use, layout.tiles * h)
        (B, E, e), K = q.shape, k.shape[1]
        grad = grad.reshape(-1, e).index_select(0, use.from_own).index_fill_(0, use.empty, 0).view(B, E, e)

        d_scores = torch.ops.aten._softmax_backward_data(grad @ v.transpose(1, 2), weights, -1, weights.dtype)
        d_scores.mul_(e**-0.5)
        d = q.new_empty(B * (E + 2 * K), e)  # gradients of q, k and v, one after the other
        d_q, d_k, d_v = d.split([B * E, B * K, B * K])
        torch.bmm(d_scores, k, out=d_q.view(B, E, e))
        torch.bmm(d_scores.transpose(1, 2), q, out=d_k.view(B, K, e))
        torch.bmm(weights.transpose(1, 2), grad, out=d_v.view(B, K, e))

        places = [B * E + layout.key_place, B * (E + K) + layout.key_place]
        if own_q is None:
            places.insert(0, use.back)
        out = d.index_select(0, torch.stack(places, 1).flatten()).view(packed.shape)  # (R, parts D)
        # Every tile of a group contributes to the gradient of the group's prefix.
        shares = d[B * E :].view(2, layout.tiles, h, K, e)[:, :, :, :P]
        prefix = shares.new_zeros(2, G, h, P, e).index_add_(1, layout.owner, shares)
        out[: G * P].view(G, P, use.parts, h, e)[:, :, -2:] += prefix.permute(1, 3, 0, 2, 4)
        return out, None if own_q is None else d_q.index_select(0, use.back.flatten()).view(own_q.shape), None, None


def attention(attn: nn.Module, x: Tensor, layout: Layout, change: Change | None = None) -> Tensor:
    """Causal self-attention of packed prompts: x (R, D) -> (R, D)."""
    qkv = linear(x, attn.in_proj_weight, attn.in_proj_bias, change, "q", "k", "v")  # (R, 3 D)
    seen = _PrefixAttention.apply(qkv, None, layout, layout.every)
    return linear(seen, attn.out_proj.weight, attn.out_proj.bias, change, "out")


def last_attention(attn: nn.Module, x: Tensor, layout: Layout, change: Change | None = None) -> Tensor:
    """Attention of the [EOS] tokens only, which attend to their whole prompt: x (R, D) -> (N, D)."""
    D, weight, bias = x.shape[1], attn.in_proj_weight, attn.in_proj_bias
    own = change if change is None else change.pick(layout.eos)
    q = linear(x.index_select(0, layout.eos), weight[:D], bias[:D], own, "q")
    kv = linear(x, weight[D:], bias[D:], change, "k", "v")
    seen = _PrefixAttention.apply(kv, q, layout, layout.last)
    return linear(seen, attn.out_proj.weight, attn.out_proj.bias, own, "out")
