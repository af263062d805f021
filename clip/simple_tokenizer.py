"""CLIP's byte-pair tokenizer with OpenAI's names, on open_clip's implementation and vocabulary."""

from __future__ import annotations

import regex
from open_clip.tokenizer import SimpleTokenizer as _OpenClipTokenizer

SOS, EOS = "<|startoftext|>", "<|endoftext|>"


class SimpleTokenizer(_OpenClipTokenizer):
    """`encode(text) -> list[int]`, `decode(ids) -> str`, `encoder` (token -> id), `decoder` (id -> token).

    open_clip renames the two special tokens. Here they keep OpenAI's spelling in `encoder` and in texts, so that every
    string has OpenAI's ids.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for renamed, special in (("<start_of_text>", SOS), ("<end_of_text>", EOS)):
            index = self.encoder.pop(renamed)
            self.encoder[special] = index
            self.decoder[index] = special
            self.cache.pop(renamed, None)
            self.cache[special] = special
        self.pat = regex.compile(
            r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
            regex.IGNORECASE,
        )
