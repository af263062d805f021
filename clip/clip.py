"""The names that CoOp-style code imports from OpenAI's `clip`: load, tokenize, available_models, build_model, _MODELS,
_download.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dassl.utils import atomic_write

from .backbones import fetch_weights, load_backbone, weights_source
from .building import build_model, expand_tiny
from .model import CLIP
from .names import available_models
from .simple_tokenizer import EOS, SOS
from .tokenizers import ClipTokens, clip_tokens
from .weights import cache_dir, download, read_state_dict, sha256

__all__ = ["CLIP", "available_models", "build_model", "load", "tokenize"]

# name -> source of the weights, a URL for OpenAI's models where open_clip knows one; `_download` takes either
_MODELS = {name: weights_source(name) for name in available_models()}


def tokenizer() -> ClipTokens:
    """CLIP's tokenizer, the one of this process."""
    return clip_tokens()


def tokenize(texts: str | list[str], context_length: int = 77, truncate: bool = False) -> torch.IntTensor:
    """Token ids of `texts`, zero-padded: (N, context_length), [SOS] first and [EOS] after the last token.

    With `truncate`, a text longer than `context_length` is cut and its last id becomes [EOS]; without it, such a text
    raises RuntimeError.
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
    """(model, preprocess) as OpenAI's `clip.load` returns them; `name` as in `load_backbone`.

    The model is frozen and in eval mode, in fp16 on a CUDA device and in fp32 elsewhere. `preprocess` is the transform
    of its images. `jit` is accepted for compatibility; the model is never a TorchScript module.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = "fp16" if torch.device(device).type == "cuda" else "fp32"
    model = load_backbone(name, precision=precision, device=device, cache=download_root)
    return model, model.preprocess()


def _download(name_or_source: str, root: str | None = None) -> str:
    """Path of a model's weights, downloaded and verified on first use, as a file that `torch.load` reads.

    Safetensors (the embedded model, the hub) are saved as a state dict, which `build_model` takes, in `root`.
    """
    names = {source: name for name, source in _MODELS.items()}
    name = names.get(name_or_source, name_or_source)
    if name not in _MODELS:
        return str(download(name, root or cache_dir()))
    path = fetch_weights(name, root)
    if path.suffix != ".safetensors":
        return str(path)
    saved = Path(root or cache_dir()) / f"{name.replace('/', '-')}-{sha256(path)[:8]}.pt"
    if not saved.is_file():
        saved.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(saved, "wb") as file:
            torch.save(expand_tiny(read_state_dict(path)), file)
    return str(saved)


def __getattr__(name: str):
    if name == "_tokenizer":  # OpenAI's name
        return tokenizer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
