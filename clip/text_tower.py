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
import torch.utils.checkpoint
from torch import Tensor, nn

from dassl.config import at_least, declare
from dassl.utils import UserError

from .layers import at_least_fp32, mlp, norm
from .model import CLIP, project
from .prefix_attention import attention, last_attention, layout_for

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
        if not 0 < self.chunk < len(prompts.group):
            return self._encode(prompts.prefix, prompts.suffix, prompts.group, prompts.length, prompts.deep)
        order = prompts.group.argsort(stable=True)  # so that a prefix is in few chunks
        group, length = prompts.group[order], prompts.length[order]
        prompts = Prompts(prompts.prefix, prompts.suffix[order], group, length, prompts.deep)
        parts = [prompts.part(start, start + self.chunk) for start in range(0, len(order), self.chunk)]
        return torch.cat([self._recomputed(part) for part in parts])[order.argsort()]

    def _recomputed(self, p: Prompts) -> Tensor:
        tensors = p.prefix, p.suffix, p.group, p.length, p.deep
        return torch.utils.checkpoint.checkpoint(self._encode, *tensors, use_reentrant=False, preserve_rng_state=False)

    def _encode(self, prefix: Tensor, suffix: Tensor, group: Tensor, length: Tensor, deep: Tensor | None) -> Tensor:
        """The pass itself; see `Prompts` for the shapes; (N, d)."""
        (G, P, D), dtype = prefix.shape, self.blocks[0].mlp.c_fc.weight.dtype
        groups, lengths = tuple(group.tolist()), tuple(length.tolist())
        longest = max(lengths)
        layout = layout_for((G, P), groups, lengths, self.heads, dtype, self.device)
        position = at_least_fp32(self.clip.positional_embedding)
        tokens = (suffix[:, :longest] + position[P : P + longest]).flatten(0, 1)  # (N * longest, D)
        x = torch.cat([(prefix + position[:P]).flatten(0, 1), tokens.index_select(0, layout.real)]).to(dtype)  # (R, D)
        for i, block in enumerate(self.blocks):
            if deep is not None and 1 <= i <= deep.shape[1]:
                old, new = x[: G * P].view(G, P, D), deep[:, i - 1].to(dtype)
                replaced = torch.cat([old[:, :1], new, old[:, 1 + new.shape[1] :]], 1)
                x = torch.cat([replaced.flatten(0, 1), x[G * P :]])
            if i + 1 < len(self.blocks):
                x = x + block.ls_1(attention(block.attn, norm(block.ln_1, x), layout))
            else:  # of the last layer only the [EOS] outputs are used: (N, D)
                x = x.index_select(0, layout.eos) + block.ls_1(last_attention(block.attn, norm(block.ln_1, x), layout))
            x = x + block.ls_2(mlp(block.mlp, norm(block.ln_2, x)))
        return project(norm(self.clip.ln_final, x), self.clip.text_projection)
