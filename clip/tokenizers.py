"""Tokenizers of text towers: CLIP's own, and those of Hugging Face that open_clip names for other models.

Both give token ids of a text without special tokens (`encode`), and know the tokens around a text (`start`, `end`) and
behind it (`pad`). So prompts of words and learned tokens are built in the same way for every backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer

from dassl.utils import UserError

from .names import model_config
from .simple_tokenizer import EOS, SOS, SimpleTokenizer
from .weights import hub_within_reach

FILES = ("tokenizer.json", "tokenizer_config.json")
INSTALL = "pip install -r requirements-hf.txt"


class Tokenizer(Protocol):
    """What text towers and prompts need of a tokenizer.

    Attributes:
        start: ids in front of every text, () or one id.
        end: ids behind every text; () if the tower reads no end token.
        pad: id that fills the context behind `end`.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int

    def encode(self, text: str, inside: bool = False) -> list[int]:
        """Ids of a text without `start` and `end`. `inside`: as it stands inside a sentence, behind other words."""

    def word(self, token: int) -> str:
        """A token as text, with "-" appended if it is the beginning of longer words."""


class ClipTokens(SimpleTokenizer):
    """CLIP's byte-pair tokenizer as a `Tokenizer`."""

    pad = 0

    @property
    def start(self) -> tuple[int, ...]:
        return (self.encoder[SOS],)

    @property
    def end(self) -> tuple[int, ...]:
        return (self.encoder[EOS],)

    def encode(self, text: str, inside: bool = False) -> list[int]:
        return super().encode(text)  # CLIP's words begin with no space, so they are the same everywhere

    def word(self, token: int) -> str:
        raw = self.decoder[token]
        if raw in (SOS, EOS):
            return raw
        text = bytearray(self.byte_decoder[c] for c in raw.removesuffix("</w>")).decode("utf-8", errors="replace")
        return text if raw.endswith("</w>") else text + "-"

    def __deepcopy__(self, memo) -> ClipTokens:
        return self  # a copy of a CLIP shares it: nothing in it changes


class HubTokens:
    """A tokenizer of Hugging Face as open_clip wraps it, as a `Tokenizer`.

    `inner` is open_clip's HFTokenizer: it cleans texts, e.g. removes punctuation for SigLIP, and
    may replace the separator token (CLIPA). Raises UserError for a tokenizer that puts a token behind the padding.
    """

    def __init__(self, inner: HFTokenizer, name: str = ""):
        self.inner, self.name, self.limit = inner, name, inner.context_length
        if getattr(inner, "tokenizer_mode", ""):
            raise UserError(
                f"The tokenizer {name} has the mode {inner.tokenizer_mode!r}, which puts a token behind the padding: "
                "no prompt can be built for it."
            )
        whole, bare = self._ids("a", True), self._ids("a", False)
        first = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        self.start, end = tuple(whole[:first]), tuple(whole[first + len(bare) :])
        table, longer = inner.tokenizer, inner(["a"], len(whole) + 1)[0].tolist()
        self.pad = longer[-1]
        self._dropped = table.sep_token_id if getattr(inner, "strip_sep_token", False) else None
        self.end = () if self._dropped in end else end
        if longer[: len(whole)] != [*self.start, *bare, *(0 if i == self._dropped else i for i in end)]:
            raise UserError(f"The tokenizer {name} pads texts at their beginning: no prompt can be built for it.")

    def _ids(self, text: str, special: bool) -> list[int]:
        return list(self.inner.tokenizer(text, add_special_tokens=special).input_ids)

    def encode(self, text: str, inside: bool = False) -> list[int]:
        text = self.inner.clean_fn(text)
        ids = self._ids(text, False)
        if inside and text:  # a byte-level tokenizer (RoBERTa) marks the words that follow a space
            lead, both = self._ids("a", False), self._ids(f"a {text}", False)
            ids = both[len(lead) :] if both[: len(lead)] == lead else ids
        return [0 if token == self._dropped else token for token in ids]

    def word(self, token: int) -> str:
        raw = self.inner.tokenizer.convert_ids_to_tokens(token)
        return raw.replace("▁", "").replace("Ġ", "") or raw

    def __deepcopy__(self, memo) -> HubTokens:
        return self


@lru_cache(maxsize=1)
def clip_tokens() -> ClipTokens:
    """CLIP's tokenizer, made once per process: reading its vocabulary takes a few tenths of a second."""
    return ClipTokens()


def pad_ids(ids: Sequence[Sequence[int]], pad: int, length: int) -> torch.Tensor:
    """Ids of N texts as a matrix (N, length), with `pad` behind each text."""
    return torch.tensor([[*row, *[pad] * (length - len(row))] for row in ids], dtype=torch.long).view(len(ids), length)


@lru_cache(maxsize=8)
def hub_tokens(backbone: str, folder: str = "", cache: str | None = None) -> HubTokens:
    """The tokenizer that open_clip's configuration of a backbone asks for, from Hugging Face.

    It is read from `folder` if its files are there (see `FILES`), otherwise from the Hugging Face hub or its cache.
    Raises UserError if it cannot be read, or if the package transformers is missing.
    """
    text = model_config(backbone)["text_cfg"]
    name = text["hf_tokenizer_name"]
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise UserError(
            f"MODEL.BACKBONE.NAME {backbone}: its tokenizer ({name}) needs the package transformers: {INSTALL}"
        ) from None
    here = bool(folder) and any((Path(folder) / file).is_file() for file in FILES)
    options = {} if here else {"cache_dir": cache}
    if text.get("tokenizer_mode"):  # an argument of newer versions of open_clip
        options["tokenizer_mode"] = text["tokenizer_mode"]
    length, unreachable = text.get("context_length", DEFAULT_CONTEXT_LENGTH), ""
    try:
        with nullcontext("") if here else hub_within_reach() as unreachable:
            inner = HFTokenizer(folder if here else name, length, **options, **text.get("tokenizer_kwargs", {}))
    except Exception as error:  # the readers of these files raise nearly anything
        reason = unreachable or (str(error).splitlines() or [type(error).__name__])[0][:200]
        where = folder if here else f"the Hugging Face repository {name}"
        raise UserError(
            f"MODEL.BACKBONE.NAME {backbone}: its tokenizer cannot be read from {where} ({reason}). Download "
            f"{' and '.join(FILES)} of {name} by hand and put them beside the weight file of MODEL.BACKBONE.WEIGHTS."
        ) from None
    return HubTokens(inner, folder if here else name)
