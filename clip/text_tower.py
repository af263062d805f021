"""Encode prompts into text features, computing each token once.

CLIP's text transformer is causal and only its [EOS] output is used. So tokens after [EOS] are not computed, and prompts
that begin with the same tokens ([SOS] + context) share them: the shared prefix passes through every layer once per
group, and the other tokens of each prompt attend to the prefix's keys and values. Both steps are exact, forward and
backward.

All real tokens form one packed matrix (R, D): first the prefixes, group by group, then the suffixes without padding.
LayerNorms, projections and MLPs, which are nearly all of the work, run on this matrix; only attention uses padded
views.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from dassl.config import at_least, declare
from dassl.utils import UserError

from .additions import Additions, Tokens, rows_of
from .layers import at_least_fp32, mlp, norm
from .model import CLIP, project
from .prefix_attention import Layout, attention, last_attention, layout_for

declare("MODEL.TEXT_CHUNK", 0, allowed=at_least(0), help="prompts encoded at a time, to limit memory; 0: all at once")


@dataclass
class Prompts:
    """N prompts as token embeddings without positions, in G groups of prompts that begin with the same P tokens.

    prefix (G, P, D): the shared beginning of each group, [SOS] first; P >= 1.
    suffix (N, S, D): the rest of each prompt, [EOS] last, padded to the longest suffix.
    group (N,): index of each prompt's prefix.
    length (N,): number of tokens in each suffix, up to and including [EOS].
    start: number of layers that the tokens have already passed, see `TextTower.before`.
    """

    prefix: Tensor
    suffix: Tensor
    group: Tensor
    length: Tensor
    start: int = 0

    def part(self, index: Tensor) -> Prompts:
        """Select the prompts `index` (M,), with only the prefixes that they use."""
        groups, group = self.group[index].unique(return_inverse=True)
        length = self.length[index]
        return Prompts(self.prefix[groups], self.suffix[index, : int(length.max())], group, length, self.start)

    @property
    def num_tokens(self) -> int:
        """Number of tokens that the tower computes for the prompts."""
        return self.prefix.shape[0] * self.prefix.shape[1] + int(self.length.sum())


class TextTower:
    """The frozen text transformer of `clip`, callable on `Prompts` -> (N, d).

    Gradients flow to the prompts' embeddings and to additions, never to the tower. Raises UserError for models whose
    text tower is not causal or does not use the [EOS] output (SigLIP, Hugging Face towers), since the features would be
    wrong.

    `chunk`: number of prompts encoded at a time, 0 for all. The activations of a chunk are not kept; they are computed
    again in the backward pass. This bounds memory for any N, at the cost of a second forward pass.
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
        """Look up token ids (…): embeddings (…, D) in fp32, without positions."""
        return at_least_fp32(self.clip.token_embedding(ids.to(self.device)))

    def texts(self, texts: list[str]) -> Prompts:
        """Make prompts of N strings, in one group whose prefix is the beginning that all strings share."""
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
    def before(self, prompts: Prompts, layer: int) -> Prompts:
        """Prompts whose tokens have passed the layers before `layer`: constants, if nothing is added before it."""
        if layer == 0:  # without positions, which the tower adds to prompts that begin with the first layer
            return prompts
        with self.autocast():
            packed = self._pass(_Packed(self, prompts, Additions()), Additions(), range(layer))
        rows, longest = packed.G * packed.P, int(prompts.length.max())
        suffix = packed.x.new_zeros(len(prompts.group) * longest, self.width)
        suffix = suffix.index_copy(0, packed.layout.real, packed.x[rows:]).view(-1, longest, self.width)
        prefix = packed.x[:rows].view(packed.G, packed.P, self.width)
        return Prompts(prefix, suffix, prompts.group, prompts.length, layer)

    @torch.no_grad()
    def encode(self, texts: list[str], batch: int = 512) -> Tensor:
        """Encode plain texts without gradients: N strings -> (N, d)."""
        return torch.cat([self(self.texts(texts[start : start + batch])) for start in range(0, len(texts), batch)])

    def autocast(self):
        """Context manager: matrix products in fp16 if the precision of the CLIP is amp; otherwise without effect."""
        amp = self.clip.precision == "amp"
        return torch.autocast(self.device.type, torch.float16) if amp else nullcontext()

    def __call__(self, prompts: Prompts, added: Additions | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Compute text features (N, d), not normalised, with the additions of a method.

        If `added.tokens.keep`, also returns the outputs (N, K, D) of the added tokens after the final LayerNorm. Raises
        UserError for prompts that are longer than the tower's context, and for additions that do not fit the tower.
        """
        added = added or Additions()
        if added.tokens is not None and 0 in added.tokens.values.shape[1:3] and not added.tokens.keep:
            added = replace(added, tokens=None)
        P, longest, count = prompts.prefix.shape[1], int(prompts.length.max()), len(prompts.group)
        inserted = added.tokens.values.shape[2] if added.tokens is not None and added.tokens.insert else 0
        if P + longest + inserted > self.context_length:
            raise UserError(
                f"A prompt of {P + longest + inserted} tokens does not fit the context of {self.context_length}: "
                "use fewer context tokens (N_CTX) or a shorter class name."
            )
        added.check("text", len(self.blocks), self.width, self.blocks[0].mlp.c_fc.out_features, count, prompts.start)
        if added.sets > 1 and added.group is None:
            added = added.take(torch.arange(count, device=self.device))
        if not 0 < self.chunk < count:
            found = self._encode(prompts, added)
        else:
            order = prompts.group.argsort(stable=True)  # so that each prefix occurs in few chunks
            parts = [self._recomputed(prompts, added, index) for index in order.split(self.chunk)]
            found = tuple(torch.cat(part)[order.argsort()] for part in zip(*parts, strict=True))
        return found if len(found) > 1 else found[0]

    def _recomputed(self, prompts: Prompts, added: Additions, index: Tensor) -> tuple[Tensor, ...]:
        part, own = prompts.part(index), added.take(None if added.group is None else added.group[index])
        random = any(change.dropout for change in added.changes.values())
        return torch.utils.checkpoint.checkpoint(
            self._encode, part, own, use_reentrant=False, preserve_rng_state=random
        )

    def _encode(self, prompts: Prompts, added: Additions) -> tuple[Tensor, ...]:
        """Run the forward pass: features (N, d) and, if tokens are kept, their outputs (N, K, D)."""
        packed = self._pass(_Packed(self, prompts, added), added, range(prompts.start, len(self.blocks)))
        tokens, count = added.tokens, len(prompts.group)
        x = norm(self.clip.ln_final, packed.x)
        features = project(x[:count], self.clip.text_projection)
        if tokens is None or not tokens.keep:
            return (features,)
        return features, x[count:].view(count, -1, self.width)

    def _pass(self, packed: _Packed, added: Additions, layers: range) -> _Packed:
        """Pass the packed tokens through `layers`. After the last layer of the tower, only used rows are left."""
        tokens = added.tokens
        for i in layers:
            block = self.blocks[i]
            if tokens is not None and i in tokens.layers:
                packed.put(tokens, i)
            change = added.at(i, packed.sets)
            x, normed, layout = packed.x, norm(block.ln_1, packed.x), packed.layout
            if i + 1 < len(self.blocks):
                x = x + block.ls_1(attention(block.attn, normed, layout, change))
            elif tokens is None or not tokens.keep:  # only the [EOS] outputs of the last layer are used: (N, D)
                x = x.index_select(0, layout.eos) + block.ls_1(last_attention(block.attn, normed, layout, change))
                change = change and change.pick(layout.eos)
            else:
                used = torch.cat([layout.eos, packed.rows_of_tokens(tokens.values.shape[2]).flatten()])
                x = (x + block.ls_1(attention(block.attn, normed, layout, change))).index_select(0, used)
                change = change and change.pick(used)
            packed.x = x + block.ls_2(mlp(block.mlp, norm(block.ln_2, x), change))
        return packed


class _Packed:
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
