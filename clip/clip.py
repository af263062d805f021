"""The names CoOp-style code reads from OpenAI's `clip` module: load, tokenize, available_models, _MODELS, _download,
build_model.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from .backbones import OPENAI, available_models, load_backbone
from .model import CLIP, build_model
from .simple_tokenizer import EOS, SOS, SimpleTokenizer
from .weights import cache_dir, download

__all__ = ["CLIP", "available_models", "build_model", "load", "tokenize"]

_MODELS = {name: weights.url for name, weights in OPENAI.items()}  # name -> URL, the SHA-256 is its last folder


@lru_cache(maxsize=1)
def tokenizer() -> SimpleTokenizer:
    """The one tokenizer of this process (reading its vocabulary takes a few tenths of a second)."""
    return SimpleTokenizer()


def tokenize(texts: str | list[str], context_length: int = 77, truncate: bool = False) -> torch.IntTensor:
    """Token ids of `texts`, zero-padded: (N, context_length), [SOS] first and [EOS] after the last token.

    Raises RuntimeError for a text longer than `context_length`, unless `truncate` cuts it (its last id becomes [EOS]).
    """
    if isinstance(texts, str):
        texts = [texts]
    bpe = tokenizer()
    sos, eos = bpe.encoder[SOS], bpe.encoder[EOS]
    ids = torch.zeros(len(texts), context_length, dtype=torch.int)  # (N, context_length)
    for row, text in zip(ids, texts, strict=True):
        tokens = [sos, *bpe.encode(text), eos]
        if len(tokens) > context_length:
            if not truncate:
                raise RuntimeError(
                    f"Input {text!r} is {len(tokens)} tokens long, the context length is {context_length}"
                )
            tokens = [*tokens[: context_length - 1], eos]
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.int)
    return ids


def load(name: str, device: str | torch.device | None = None, jit: bool = False, download_root: str | None = None):
    """The model `name` (see `available_models`, or a file) and the transform its images need, as OpenAI's `clip.load`
    gives them.

    fp16 on a CUDA device, fp32 elsewhere, in eval mode, frozen. `jit` is accepted for compatibility; the model is never
    a TorchScript module. Returns (model, preprocess).
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = "fp16" if torch.device(device).type == "cuda" else "fp32"
    model = load_backbone(name, precision=precision, device=device, cache=download_root)
    return model, model.preprocess()


def _download(name_or_url: str, root: str | None = None) -> str:
    """The local path of a model's weights, downloaded and verified if they are not in the cache yet."""
    url = _MODELS.get(name_or_url, name_or_url)
    return str(download(url, root or cache_dir()))
