"""The packed matrix of prompts on its way through a causal text tower: which row is which token of which prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dassl.utils import UserError

from .additions import Additions, Tokens, rows_of
from .layers import at_least_fp32
from .prefix_attention import Layout, layout_for

if TYPE_CHECKING:
    from .text_tower import Prompts, TextTower


class Packed:
    """The packed matrix x (R, D) of a forward pass, and the prompt that each row belongs to.

    The rows are the prefixes (G, P), group by group, then the suffixes without padding. If additions come in several
    sets, prompts of one group may use different sets: then the group is split at the layer where the sets enter, and
    its prefix is duplicated.

    Attributes:
        x: (R, D).
        layout: positions of the tokens in the tiles of attention.
        sets: (R,) set of each row, for low-rank changes in several sets; else None.
    """

    def __init__(self, tower: TextTower, prompts: Prompts, added: Additions):
        self.tower, self.own = tower, added.group
        self.dtype = tower.blocks[0].mlp.c_fc.weight.dtype
        self.grouped_changes = added.grouped_changes
        (self.G, self.P, self.D), self.group, self.length = prompts.prefix.shape, prompts.group, prompts.length
        self.prefix_set: Tensor | None = None  # (G,) set of each prefix, once groups are split
        self._in_suffix = False  # whether added tokens are the first tokens of the suffixes
        self._lay_out()
        longest = int(prompts.length.max())
        tokens, start = prompts.suffix[:, :longest], prompts.prefix
        if not prompts.start:
            position = at_least_fp32(tower.clip.positional_embedding)
            tokens, start = tokens + position[self.P : self.P + longest], start + position[: self.P]
        tokens = tokens.flatten(0, 1).index_select(0, self.layout.real)  # (N * longest, D) without padding
        self.x = torch.cat([start.flatten(0, 1), tokens]).to(self.dtype)
        if self.grouped_changes:
            self._part()

    def _lay_out(self) -> None:
        groups, lengths = tuple(self.group.tolist()), tuple(self.length.tolist())
        self.layout: Layout = layout_for(
            (self.G, self.P), groups, lengths, self.tower.heads, self.dtype, self.tower.device
        )
        self.sets = None
        if self.grouped_changes and self.prefix_set is not None:
            own = self.own.repeat_interleave(self.length)
            self.sets = torch.cat([self.prefix_set.repeat_interleave(self.P), own])

    def _part(self) -> None:
        """Split groups so that all prompts of a group use the same set of additions."""
        if self.own is None or self.prefix_set is not None:
            return
        pairs, group = (self.group * (int(self.own.max()) + 1) + self.own).unique(return_inverse=True)
        old = pairs // (int(self.own.max()) + 1)
        self.prefix_set = pairs % (int(self.own.max()) + 1)
        if not torch.equal(old, torch.arange(self.G, device=old.device)):
            rows = (old[:, None] * self.P + torch.arange(self.P, device=old.device)).flatten()
            self.x = torch.cat([self.x.index_select(0, rows), self.x[self.G * self.P :]])
        self.G, self.group = len(pairs), group
        self._lay_out()

    def _spread(self) -> None:
        """Keep only [SOS] in the prefixes; the other prefix tokens move to the beginning of the suffixes."""
        device, rest = self.x.device, self.P - 1
        start = self.G * self.P + self.length.cumsum(0) - self.length  # (N,) row of each suffix
        head = self.group[:, None] * self.P + 1 + torch.arange(rest, device=device)  # (N, P - 1)
        rows = _joined_rows(head, start, self.length)
        # [SOS] attends only to itself, so it is the same in all groups unless low-rank changes differ
        keep = torch.arange(self.G if self.grouped_changes else 1, device=device) * self.P
        self.x = self.x.index_select(0, torch.cat([keep, rows]))
        if not self.grouped_changes:
            self.G, self.group, self.prefix_set = 1, torch.zeros_like(self.group), self.own.new_zeros(1)
        self.P, self.length = 1, self.length + rest

    def put(self, tokens: Tokens, layer: int) -> None:
        """Insert `tokens` before `layer`, or let them replace the K tokens after [SOS]."""
        new, K = tokens.at(layer).to(self.dtype), tokens.values.shape[2]
        insert, device = tokens.insert and layer == tokens.layers[0], self.x.device
        if layer == tokens.layers[0]:
            before = self.G
            if len(new) > 1:
                self._part()
            # True: from this layer on, every prompt has its own tokens
            each = len(new) > 1 and before < self.G == len(self.group)
            if self.P > 1 and ((each and not insert) or (not insert and self.P <= K)):
                self.own = torch.zeros_like(self.group) if self.own is None else self.own
                self._spread()
            if self.P == 1 and not insert and int(self.length.min()) <= K:
                raise UserError(f"{K} tokens cannot replace the tokens of a prompt with fewer tokens after [SOS].")
            self._in_suffix = self.P == 1 and not insert
        if self._in_suffix:
            start = self.G + self.length.cumsum(0) - self.length  # (N,)
            rows = (start[:, None] + torch.arange(K, device=device)).flatten()
            new = rows_of(new, self.own if len(new) > 1 else None, len(self.group)).flatten(0, 1)
            if tokens.share < 1:
                new = tokens.share * new + (1 - tokens.share) * self.x.index_select(0, rows)
            self.x = self.x.index_copy(0, rows, new)
        else:
            old = self.x[: self.G * self.P].view(self.G, self.P, self.D)
            new = rows_of(new, self.prefix_set if len(new) > 1 else None, self.G)
            if not insert and tokens.share < 1:
                new = tokens.share * new + (1 - tokens.share) * old[:, 1 : 1 + K]
            placed = torch.cat([old[:, :1], new, old[:, 1 if insert else 1 + K :]], 1)
            self.x = torch.cat([placed.flatten(0, 1), self.x[self.G * self.P :]])
            self.P = placed.shape[1]
        if layer == tokens.layers[0]:  # at later layers every token stays in its place
            self._lay_out()

    def rows_of_tokens(self, K: int) -> Tensor:
        """Rows (N, K) of the K tokens after each prompt's [SOS]."""
        step = torch.arange(K, device=self.x.device)
        if self._in_suffix:
            return (self.G + self.length.cumsum(0) - self.length)[:, None] + step
        return self.group[:, None] * self.P + 1 + step


def _joined_rows(head: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Rows of N sequences, one after the other: each has its rows of head (N, H), then start … start + length - 1.

    start, length: (N,). Returns a flat index of rows.
    """
    N, H = head.shape
    longest = int(length.max())
    step = torch.arange(longest, device=head.device)
    rows = torch.cat([head, start[:, None] + step], 1)
    real = torch.cat([head.new_ones(N, H, dtype=torch.bool), step < length[:, None]], 1)
    return rows[real]
