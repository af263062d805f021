"""The names CoOp-style code reads from OpenAI's `clip` module: load, tokenize, available_models, _MODELS, _download,
build_model.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from dassl.utils import atomic_write

from .backbones import OPENAI, TINY, TINY_FILE, TINY_SHA256, available_models, build_model, expand_tiny, load_backbone
from .model import CLIP
from .simple_tokenizer import EOS, SOS, SimpleTokenizer
from .weights import cache_dir, download, read_state_dict

__all__ = ["CLIP", "available_models", "build_model", "load", "tokenize"]

# name -> URL, whose last folder is the SHA-256; of the embedded model its file
_MODELS = {**{name: weights.url for name, weights in OPENAI.items()}, TINY: str(TINY_FILE)}


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
    """The local path of a model's weights, downloaded and verified if they are not in the cache yet.

    Of the embedded model a state dict with its whole vocabulary, which `torch.load` and `build_model` take.
    """
    url = _MODELS.get(name_or_url, name_or_url)
    if url != str(TINY_FILE):
        return str(download(url, root or cache_dir()))
    path = Path(root or cache_dir()) / f"tiny-{TINY_SHA256[:8]}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb") as file:
            torch.save(expand_tiny(read_state_dict(TINY_FILE)), file)
    return str(path)
