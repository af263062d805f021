"""Text towers that are computed token by token: every token of every prompt passes every layer.

This is for towers that are not causal or pool otherwise (SigLIP, CLIPA, MobileCLIP, CoCa), where prompts share nothing,
and for Hugging Face text towers, which get the prompts as input embeddings. Padding is computed where the tower attends
to it. Features and gradients are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dassl.utils import UserError

from .additions import Additions, Tokens, rows_of
from .layers import at_least_fp32, finish_block, linear, norm, project

if TYPE_CHECKING:
    from .model import CLIP


@dataclass(frozen=True)
class Reading:
    """How a text tower reads its tokens.

    pool: position of the output that becomes the feature. "end": the text's last token ([EOS]); "last": the last
        position of the context; "first": the first one; "class": a class token behind the context (CoCa).
    causal: tokens attend to their past only.
    end_id: id of the end token; None: the largest id of a text.
    pad_id: (class) id of padding, which the class token does not attend to.
    whole_mask: (class) the mask hides all padding. CoCa's own is shifted by one position, so that the class token
        attends to the first padding token and not to itself.
    """

    pool: str
    causal: bool
    end_id: int | None = None
    pad_id: int = 0
    whole_mask: bool = False

    @property
    def shares_prefixes(self) -> bool:
        """Whether prompts can share what they begin with, see `text_tower.py`."""
        return self.causal and self.pool == "end"

    def ends(self, ids: Tensor) -> Tensor:
        """Number of tokens (N,) up to and including the end token of padded texts (N, S)."""
        found = ids if self.end_id is None else (ids == self.end_id).int()
        return found.argmax(-1) + 1


class PlainText:
    """The text tower of `clip`, one of open_clip's transformers: token embeddings (N, S, D) -> features (N, d)."""

    def __init__(self, clip: CLIP):
        self.clip, self.reading, self.blocks = clip, clip.reading, clip.transformer.resblocks

    def ids(self, ids: Tensor) -> Tensor:
        """Features (N, d) of padded token ids (N, S), as open_clip's `encode_text` computes them (not normalised)."""
        x = at_least_fp32(self.clip.token_embedding(ids))
        return self._run(x, self.reading.ends(ids), Additions(), 0)[0]

    def prompts(self, x: Tensor, count: Tensor, added: Additions, start: int, pad: int) -> tuple[Tensor, ...]:
        """Features (N, d) of N prompts, and the outputs (N, K, D) of kept tokens.

        x (N, S, D): the prompts as embeddings without positions, padded with anything.
        count (N,): number of tokens of each prompt.
        start: number of tokens in front of added tokens: 1 if prompts begin with a start token, else 0.
        pad: id of padding.
        """
        limit, longest = self.clip.context_length, x.shape[1]
        # Padding behind the longest prompt: as much as has an effect on the features.
        if not self.reading.causal or self.reading.pool == "last":
            length = limit
        else:
            length = min(longest + 1, limit) if self.reading.pool == "class" else longest
        filler = at_least_fp32(self.clip.token_embedding.weight[pad])  # (D,)
        x = torch.cat([x[:, :length], filler.expand(len(x), max(length - longest, 0), -1)], 1)
        real = torch.arange(length, device=x.device) < count[:, None]
        return self._run(torch.where(real[..., None], x, filler), count, added, start)

    def _run(self, x: Tensor, count: Tensor, added: Additions, start: int) -> tuple[Tensor, ...]:
        clip, (N, S, _), tokens = self.clip, x.shape, added.tokens
        seen = None
        position = at_least_fp32(clip.positional_embedding)
        if self.reading.pool == "class":
            seen = self._seen(x, count)
            x = torch.cat([x + position[:S], (at_least_fp32(clip.cls_emb) + position[-1]).expand(N, 1, -1)], 1)
        else:
            x = x + position[:S]
        x = x.to(self.blocks[0].mlp.c_fc.weight.dtype)
        rows = None
        if added.grouped_changes:
            rows = (torch.arange(N, device=x.device) if added.group is None else added.group)[:, None]
        if tokens is not None:
            _check_replaced(tokens, int(count.min()) - start)
        mask = self._mask(x.shape[1], seen)
        for i, block in enumerate(self.blocks):
            if tokens is not None and i in tokens.layers:
                inserted = tokens.insert and i == tokens.layers[0]
                x = _put(x, tokens, i, start, added.group)
                if inserted:
                    K = tokens.values.shape[2]
                    count = count + K
                    seen = (
                        None if seen is None else torch.cat([seen[:, :start], seen.new_ones(N, K), seen[:, start:]], 1)
                    )
                    mask = self._mask(x.shape[1], seen)
            x = _block(block, x, mask, added.at(i, rows))
        feature = project(norm(clip.ln_final, self._pooled(x, count)), clip.text_projection)
        if tokens is None or not tokens.keep:
            return (feature,)
        return feature, norm(clip.ln_final, x[:, start : start + tokens.values.shape[2]])

    def _pooled(self, x: Tensor, count: Tensor) -> Tensor:
        if self.reading.pool == "end":
            return x[torch.arange(len(x), device=x.device), count - 1]
        return x[:, 0 if self.reading.pool == "first" else -1]

    def _seen(self, x: Tensor, count: Tensor) -> Tensor:
        """Which of the S tokens and the class token behind them the class token attends to: (N, S + 1).

        The mask depends on ids. A token of a text may have the id of padding ("!" in CLIP's vocabulary); the tokens
        with this id are those with its embedding, which no learned token has.
        """
        filler = at_least_fp32(self.clip.token_embedding.weight[self.reading.pad_id])
        step = torch.arange(x.shape[1], device=x.device)
        real = (step < count[:, None]) & (x.detach() != filler).any(-1)  # (N, S)
        always = real.new_ones(len(real), 1)
        if self.reading.whole_mask:
            return torch.cat([real, always], 1)
        itself = (real[:, -1:] if x.shape[1] == self.clip.context_length else ~always)  # fmt: skip
        return torch.cat([always, real[:, :-1], itself], 1)

    def _mask(self, length: int, seen: Tensor | None) -> Tensor | None:
        """Mask of the attention, (S, S) or (N, 1, S, S), True for the keys (last dimension) that a query attends to."""
        if not self.reading.causal and seen is None:
            return None
        mask = torch.ones(length, length, dtype=torch.bool, device=self.clip.positional_embedding.device)
        mask = mask.tril() if self.reading.causal else mask
        return mask if seen is None else mask & seen[:, None, None, :]


def _check_replaced(tokens: Tokens, least: int) -> None:
    """Raise UserError if tokens replace more tokens than the shortest prompt has behind its start token, but one."""
    K = tokens.values.shape[2]
    if not tokens.insert and least <= K:
        raise UserError(f"{K} tokens cannot replace the tokens of a prompt with {least} tokens after [SOS].")


def _put(x: Tensor, tokens: Tokens, layer: int, start: int, group: Tensor | None) -> Tensor:
    """Insert the `tokens` of a layer into x (N, S, D) behind `start` tokens, or let them replace the K tokens there."""
    new, K = tokens.at(layer).to(x.dtype), tokens.values.shape[2]
    new = rows_of(new, group if len(new) > 1 else None, len(x))
    if tokens.insert and layer == tokens.layers[0]:
        return torch.cat([x[:, :start], new, x[:, start:]], 1)
    if tokens.share < 1:
        new = tokens.share * new + (1 - tokens.share) * x[:, start : start + K]
    return torch.cat([x[:, :start], new, x[:, start + K :]], 1)


def _block(block: nn.Module, x: Tensor, mask: Tensor | None, change) -> Tensor:
    """Apply a residual attention block with the mask of `PlainText._mask`: (N, S, D) -> (N, S, D)."""
    attn = block.attn
    qkv = linear(norm(block.ln_1, x), attn.in_proj_weight, attn.in_proj_bias, change, "q", "k", "v")
    return finish_block(block, x, *qkv.chunk(3, -1), change, mask)


class HubText:
    """A text tower of Hugging Face (open_clip's HFTextEncoder) with prompts as input embeddings.

    It pools and projects as open_clip does. Positions are the model's own: those of a text of the same length.
    """

    def __init__(self, clip: CLIP):
        self.clip, self.text = clip, clip.text_inner

    def prompts(self, x: Tensor, count: Tensor) -> tuple[Tensor]:
        """Features (N, d) of N prompts x (N, S, D), padded with anything; `count` (N,): number of their tokens."""
        mask = (torch.arange(x.shape[1], device=x.device) < count[:, None]).long()
        x = torch.where(mask[..., None] > 0, x, 0).to(self.clip.token_embedding.weight.dtype)
        out = self.text.transformer(inputs_embeds=x, attention_mask=mask)
        return (self.text.proj(self.text.pooler(out, mask)),)
