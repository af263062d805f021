"""Tensors -> frozen CLIP: OpenAI's layout, whose sizes the tensors tell, or an architecture of open_clip."""

from __future__ import annotations

import inspect
import logging
import re
import warnings

import open_clip
import torch
from open_clip.model import CLIP as OpenClip
from torch import Tensor, nn

from dassl.utils.errors import UserError

from .model import CLIP, CLIP_MEAN, CLIP_STD, DTYPES, convert_matrices
from .tokenizers import Tokenizer

TINY_MEAN = TINY_STD = (0.5, 0.5, 0.5)


def expand_tiny(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The embedded model's weights with all 49,408 words: `token_remap` maps each word to a row of a reduced table.

    Other weights are returned unchanged.
    """
    if "token_remap" not in tensors:
        return tensors
    whole = {name: value for name, value in tensors.items() if name != "token_remap"}
    return {**whole, "token_embedding.weight": tensors["token_embedding.weight"][tensors["token_remap"].long()]}


def build_model(state_dict: dict[str, Tensor], precision: str = "fp32", quick_gelu: bool = True) -> CLIP:
    """A frozen `CLIP` from OpenAI-style weights, with all dimensions read from the tensors.

    The weights are loaded in fp32 and converted afterwards: open_clip's builder for OpenAI's files rounds every weight
    to fp16 on the way. Raises UserError if the weights have another layout.
    """
    extra = {"input_resolution", "context_length", "vocab_size"}  # plain numbers inside OpenAI's archives
    cast = DTYPES[precision] if DTYPES[precision] != torch.float32 else None
    try:
        weights = {
            name: value.float() if value.is_floating_point() else value
            for name, value in expand_tiny(state_dict).items()
            if name not in extra
        }
        inner = OpenClip(**geometry(weights), quick_gelu=quick_gelu, cast_dtype=cast)
    except UserError:
        raise
    except Exception as error:  # shapes that no CLIP has: torch and open_clip raise nearly anything
        reason = (str(error).splitlines() or [""])[0][:200]
        raise UserError(
            f"These are not the weights of a CLIP with OpenAI's layout: their shapes do not describe a network "
            f"({type(error).__name__}: {reason})."
        ) from None
    load_strict(inner, weights)
    model = finish(inner, precision)
    if "token_remap" in state_dict:
        model.image_mean, model.image_std = TINY_MEAN, TINY_STD
    return model


def geometry(state_dict: dict[str, Tensor]) -> dict:
    """Keyword arguments of open_clip's `CLIP` (widths, layers, sizes), read from the tensors of an OpenAI-style CLIP.

    Raises UserError if the tensors have another layout.
    """
    need = ("text_projection", "positional_embedding", "token_embedding.weight", "ln_final.weight", "logit_scale")
    if missing := [name for name in need if name not in state_dict]:
        raise UserError(
            f"These are not the weights of a CLIP with OpenAI's layout: {', '.join(missing)} missing "
            f"(found {len(state_dict)} tensors, first {next(iter(state_dict), 'none')!r}). "
            "Name another architecture as MODEL.BACKBONE.NAME, e.g. ViT-B-16:laion2b_s34b_b88k."
        )
    context, width = state_dict["positional_embedding"].shape
    text = {
        "context_length": context,
        "vocab_size": state_dict["token_embedding.weight"].shape[0],
        "width": width,
        "heads": width // 64,
        "layers": _count(state_dict, r"transformer\.resblocks\.(\d+)\."),
    }
    if "visual.proj" in state_dict:  # a ViT
        conv = state_dict["visual.conv1.weight"]  # (W, 3, patch, patch)
        grid = round((state_dict["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        layers = _count(state_dict, r"visual\.transformer\.resblocks\.(\d+)\.")
        vision = {"layers": layers, "width": conv.shape[0], "patch_size": conv.shape[-1], "head_width": 64}
        vision["image_size"] = conv.shape[-1] * grid
    else:
        grid = round((state_dict["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
        layers = tuple(_count(state_dict, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
        vision = {
            "layers": layers,
            "width": state_dict["visual.layer1.0.conv1.weight"].shape[0],
            "image_size": grid * 32,
        }
    return {"embed_dim": state_dict["text_projection"].shape[1], "vision_cfg": vision, "text_cfg": text}


def _count(state_dict: dict[str, Tensor], pattern: str) -> int:
    return len({found.group(1) for name in state_dict if (found := re.match(pattern, name))})


def build_open_clip(
    model_name: str, tensors: dict[str, Tensor], precision: str, pretrained: dict, tokenizer: Tokenizer
) -> CLIP:
    """A frozen `CLIP` with open_clip's architecture `model_name`; `pretrained` is open_clip's entry for the weights."""
    inner = create_open_clip(model_name, precision, bool(pretrained.get("quick_gelu")))
    load_strict(inner, tensors)
    model = finish(inner, precision, tokenizer)
    model.image_mean = tuple(pretrained.get("mean") or CLIP_MEAN)
    model.image_std = tuple(pretrained.get("std") or CLIP_STD)
    model.interpolation = pretrained.get("interpolation") or "bicubic"
    model.squash = pretrained.get("resize_mode") == "squash"
    return model


def create_open_clip(model_name: str, precision: str = "fp32", quick_gelu: bool = False, **options) -> nn.Module:
    """open_clip's module of an architecture with random weights, built without any download of weights.

    Raises UserError if it cannot be built, e.g. for a package or file that a Hugging Face text tower needs.
    """
    stored = precision if DTYPES[precision] != torch.float32 else "fp32"  # amp keeps its weights in fp32
    # The weights of a text tower of Hugging Face come from the file, too. The name depends on open_clip's version.
    # `load_weights`: the weights of a folder or repository are loaded by this project, too.
    known = set(inspect.signature(open_clip.create_model).parameters)
    found = {"pretrained_text", "pretrained_hf", "load_weights"} & known
    options |= {"force_quick_gelu": quick_gelu, **dict.fromkeys(found, False)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # open_clip warns and logs that the weights are still random
        logging.disable(logging.WARNING)
        try:
            return open_clip.create_model(model_name, pretrained=None, precision=stored, **options)
        except (RuntimeError, ImportError, OSError) as error:  # such as a package or file that the tower needs
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(
                f"MODEL.BACKBONE.NAME: open_clip cannot build the architecture {model_name} ({reason})."
            ) from None
        finally:
            logging.disable(logging.NOTSET)


def load_strict(inner: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load all `weights` into `inner`; buffers that are recomputed may be absent.

    Raises UserError that names missing, unexpected and misshapen tensors, and tensors with values that no weight has.
    """
    expected = inner.state_dict()
    recomputed = ("attn_mask", "position_ids", "num_batches_tracked")
    real = {name: value for name, value in weights.items() if name in expected and not name.endswith(recomputed)}
    if odd := [name for name, value in real.items() if value.is_floating_point() != expected[name].is_floating_point()]:
        raise UserError(f"The weights do not fit the architecture: {_some(odd, f'of type {real[odd[0]].dtype}')}.")
    if odd := [name for name, value in real.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise UserError(f"The weights are damaged: {_some(odd, 'with NaN or infinite values')}.")
    # A download that was begun and never finished can have its full size. One matrix of zeros is in RoBERTa.
    if len(odd := [name for name, value in real.items() if value.ndim > 1 and not value.any()]) > 1:
        raise UserError(f"The weights are damaged: {_some(odd, 'with zeros only')}. Download them again.")
    scalars = {  # some versions store them as (), others as (1,)
        name: value.reshape(expected[name].shape)
        for name, value in weights.items()
        if name in expected and value.numel() == expected[name].numel() == 1
    }
    try:
        missing, unexpected = inner.load_state_dict({**weights, **scalars}, strict=False)
    except RuntimeError as error:
        raise UserError(f"The weights do not fit the architecture: {' '.join(str(error).split()[:60])}") from None
    missing = [name for name in missing if not name.endswith(recomputed)]
    unexpected = [name for name in unexpected if not name.endswith(recomputed)]
    if found := [_some(names, what) for names, what in ((missing, "missing"), (unexpected, "unexpected")) if names]:
        raise UserError(f"The weights do not fit the architecture: {', '.join(found)}.")


def _some(names: list[str], what: str) -> str:
    count = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{count} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def finish(inner: nn.Module, precision: str, tokenizer: Tokenizer | None = None) -> CLIP:
    """Convert the matrices of a loaded open_clip model to `precision` and wrap the model. Default: CLIP's tokenizer."""
    dtype = DTYPES[precision]
    if dtype != torch.float32:
        convert_matrices(inner, dtype)
        if hasattr(getattr(inner, "text", None), "pooler"):  # a Hugging Face model expects one type everywhere
            inner.text.to(dtype)
    return CLIP(inner, precision, tokenizer)
