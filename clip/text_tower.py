"""Encode prompts into text features.

CLIP's text transformer is causal and only its [EOS] output is used. So tokens after [EOS] are not computed, and prompts
that begin with the same tokens ([SOS] + context) share them: the shared prefix passes through every layer once per
group, and the other tokens of each prompt attend to the prefix's keys and values. Both steps are exact, forward and
backward. Text towers that are not causal or pool otherwise take the same calls; `plain_text.py` computes every token.

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

from .additions import Additions
from .layers import at_least_fp32, mlp, norm, project
from .model import CLIP
from .packed_prompts import Packed
from .plain_text import HubText, PlainText
from .prefix_attention import attention, last_attention
from .tokenizers import pad_ids

declare("MODEL.TEXT_CHUNK", 0, allowed=at_least(0), help="prompts encoded at a time, to limit memory; 0: all at once")


@dataclass
class Prompts:
    """N prompts as token embeddings without positions, in G groups of prompts that begin with the same P tokens.

    prefix (G, P, D): the shared beginning of each group, [SOS] first; P >= 1 if the tower has a start token.
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

    Gradients flow to the prompts' embeddings and to additions, never to the tower. A Hugging Face text tower takes no
    additions, and has no `blocks`. Raises UserError for a model whose text tower cannot take prompts.

    `chunk`: number of prompts encoded at a time, 0 for all. The activations of a chunk are not kept; they are computed
    again in the backward pass. This bounds memory for any N, at the cost of a second forward pass.
    """

    def __init__(self, clip: CLIP, chunk: int = 0):
        if clip.text_unsupported:
            raise UserError(f"Backbone {clip.name} cannot take prompts: {clip.text_unsupported}.")
        self.clip, self.chunk, self.tokenizer = clip, chunk, clip.tokenizer
        self.width = clip.token_embedding.embedding_dim  # D
        self.context_length, self.output_dim = clip.context_length, clip.output_dim
        reading, end = clip.reading, self.tokenizer.end
        self.shares_prefixes = bool(reading and reading.shares_prefixes and self.tokenizer.start)
        if reading and reading.pool == "end" and (not end or (reading.end_id or end[-1]) != end[-1]):
            raise UserError(
                f"Backbone {clip.name} reads its text feature at the end token {reading.end_id}, and its tokenizer "
                f"ends texts with {list(end) or 'no token'}: tokenizer and weights do not fit."
            )
        if reading:
            self.heads = self.blocks[0].attn.num_heads
        self._plain = None if self.shares_prefixes else PlainText(clip) if reading else HubText(clip)

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers. Raises UserError for a Hugging Face text tower, whose layers take no additions."""
        if self.clip.reading is None:
            raise UserError(layers_error(self.clip.name))
        return self.clip.transformer.resblocks

    @property
    def device(self) -> torch.device:
        return self.clip.token_embedding.weight.device

    def embed(self, ids: Tensor) -> Tensor:
        """Look up token ids (…): embeddings (…, D) in fp32, without positions."""
        return at_least_fp32(self.clip.token_embedding(ids.to(self.device)))

    def texts(self, texts: list[str]) -> Prompts:
        """Make prompts of N strings, in one group whose prefix is the beginning that all strings share."""
        tokens = self.tokenizer
        ids = [[*tokens.start, *tokens.encode(text), *tokens.end] for text in texts]
        worst = max(range(len(ids)), key=lambda index: len(ids[index]))
        if len(ids[worst]) > self.context_length:
            raise UserError(
                f"Input {texts[worst]!r} is {len(ids[worst])} tokens long, the context length is "
                f"{self.context_length}; shorten the text."
            )
        length = torch.tensor([len(row) for row in ids])  # (N,)
        ids = pad_ids(ids, tokens.pad, int(length.max()))  # (N, P + S)
        limit = max(int(length.min()) - 1, 0)
        same = (ids[:, :limit] == ids[:1, :limit]).all(0).long().cumprod(0)
        shared = max(int(same.sum()), len(tokens.start))
        table = self.embed(ids)  # (N, P + S, D)
        group = torch.zeros(len(ids), dtype=torch.long, device=self.device)
        return Prompts(table[:1, :shared], table[:, shared:], group, (length - shared).to(self.device))

    @torch.no_grad()
    def before(self, prompts: Prompts, layer: int) -> Prompts:
        """Prompts whose tokens have passed the layers before `layer`: constants, if nothing is added before it.

        Returns `prompts` unchanged for a tower in which prompts share nothing.
        """
        if (
            layer == 0 or not self.shares_prefixes
        ):  # without positions, which the tower adds to prompts that begin with the first layer
            return prompts
        with self.autocast():
            packed = self._pass(Packed(self, prompts, Additions()), Additions(), range(layer))
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
        if self.clip.reading or added.alters or added.tokens is not None:
            hidden = self.blocks[0].mlp.c_fc.out_features
            added.check("text", len(self.blocks), self.width, hidden, count, prompts.start)
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
        if self._plain is not None:
            x = torch.cat([prompts.prefix[prompts.group], prompts.suffix], 1)
            count = prompts.prefix.shape[1] + prompts.length
            if isinstance(self._plain, HubText):
                return self._plain.prompts(x, count)
            return self._plain.prompts(x, count, added, len(self.tokenizer.start), self.tokenizer.pad)
        packed = self._pass(Packed(self, prompts, added), added, range(prompts.start, len(self.blocks)))
        tokens, count = added.tokens, len(prompts.group)
        x = norm(self.clip.ln_final, packed.x)
        features = project(x[:count], self.clip.text_projection)
        if tokens is None or not tokens.keep:
            return (features,)
        return features, x[count:].view(count, -1, self.width)

    def _pass(self, packed: Packed, added: Additions, layers: range) -> Packed:
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


def layers_error(name: str) -> str:
    """Error text for a backbone whose text tower takes prompts at its input only."""
    return (
        f"MODEL.BACKBONE.NAME {name or 'of the given weights'}: its text tower is a Hugging Face model, which takes "
        "prompts at its input only; prompts in later layers and low-rank changes need a text tower of open_clip, such "
        "as that of ViT-B/16"
    )
