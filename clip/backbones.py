"""Backbone name -> frozen CLIP: OpenAI's models, any open_clip pair, a local file, the embedded model.

One way: name -> weight file (`fetch_weights`) -> tensors -> open_clip's module -> `CLIP`.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import warnings
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP as OpenClip
from open_clip.model import convert_weights_to_lp
from torch import Tensor, nn

from dassl.config import declare
from dassl.utils.errors import UserError, near_path

from .model import CLIP, CLIP_MEAN, CLIP_STD, DTYPES
from .weights import cache_dir, download, hub_within_reach, read_state_dict, sha256

declare("MODEL.BACKBONE.NAME", "RN50", help="a name of clip.available_models(), or an open_clip pair ARCHITECTURE:TAG")
declare("MODEL.BACKBONE.PRETRAINED", True, help="accepted for compatibility: a CLIP is always pretrained")
declare(
    "MODEL.BACKBONE.WEIGHTS", "", help="a local weight file (.pt, .pth, .safetensors) used instead of the named weights"
)

PRECISIONS = ("fp32", "fp16", "amp", "bf16")

OPENAI = {  # OpenAI's name -> open_clip's name of the architecture; the weights are open_clip's tag `openai`
    "RN50": "RN50",
    "RN101": "RN101",
    "RN50x4": "RN50x4",
    "RN50x16": "RN50x16",
    "RN50x64": "RN50x64",
    "ViT-B/32": "ViT-B-32",
    "ViT-B/16": "ViT-B-16",
    "ViT-L/14": "ViT-L-14",
    "ViT-L/14@336px": "ViT-L-14-336",
}

TINY = "tiny"  # the embedded model: 64 px, pixels scaled to [-1, 1]
TINY_FILE = Path(__file__).parent / "weights" / "tinyclip.safetensors"
TINY_SHA256 = "782a45f947e370c4a665845aecba4de583af3949d72b8ba1274938f8f8fb923b"
TINY_MEAN = TINY_STD = (0.5, 0.5, 0.5)


def available_models() -> list[str]:
    """The named models of `clip.load`: OpenAI's and the embedded `tiny`. It also takes open_clip pairs and files."""
    return [*OPENAI, TINY]


def architecture(name: str) -> str:
    """open_clip's name of the architecture of backbone `name`."""
    return OPENAI.get(name) or name.split(":")[0].replace("/", "-")


def _of_open_clip(name: str) -> bool:
    """Whether open_clip's configuration defines the architecture of `name`; the weights' shapes define all others."""
    return name not in OPENAI and architecture(name) in open_clip.list_models()


def input_size(name: str) -> int | None:
    """Image size in pixels of backbone `name`, known before any weights are read. None for a local file."""
    if name == TINY:
        return 64
    if architecture(name) not in open_clip.list_models():
        return None
    size = open_clip.get_model_config(architecture(name))["vision_cfg"].get("image_size", 224)
    return size if isinstance(size, int) else max(size)


def image_tower_kind(name: str, weights: str = "") -> str:
    """Kind of the image tower of backbone `name`, known before the model is built.

    "ViT" for a ViT that reads [CLS], "a ViT with a pool", "a ResNet", or timm's name of the tower. For a local file
    (`weights`, or `name` itself) its tensors are read.
    """
    if _of_open_clip(name) or (name in OPENAI and not weights):
        vision = open_clip.get_model_config(architecture(name))["vision_cfg"]
        if "timm_model_name" in vision:
            return vision["timm_model_name"]
        if isinstance(vision.get("layers"), (list, tuple)):
            return "a ResNet"
        pooled = vision.get("attentional_pool") or vision.get("pool_type", "tok") != "tok"
        return "a ViT with a pool" if pooled else "ViT"
    if name == TINY and not weights:
        return "ViT"
    return "a ResNet" if "visual.attnpool.positional_embedding" in read_state_dict(weights or name) else "ViT"


def check_name(name: str, weights: str = "") -> None:
    """Raise UserError for an unknown backbone, naming the nearest ones; FileNotFoundError for a missing file."""
    if weights and not os.path.isfile(weights):
        raise FileNotFoundError(f"MODEL.BACKBONE.WEIGHTS: no file at {weights}{near_path(weights)}")
    if name in OPENAI or name == TINY or os.path.isfile(name):
        return
    if weights and _of_open_clip(name):
        return  # the architecture comes from open_clip, the weights from the file
    if ":" in name:
        _pair(name)
        return
    alias = {key.replace("/", "-").lower(): key for key in OPENAI}
    near = difflib.get_close_matches(name.replace("/", "-").lower(), alias, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(alias[key] for key in near)}?" if near else ""
    raise UserError(
        f"MODEL.BACKBONE.NAME: unknown backbone {name!r}.{hint} Available: {', '.join(available_models())}, "
        "an open_clip pair such as ViT-B-16:laion2b_s34b_b88k, or a local file as MODEL.BACKBONE.WEIGHTS."
    )


def _pair(name: str) -> tuple[str, str]:
    """(architecture, tag) of open_clip. Raises UserError if open_clip has no such pair."""
    if name in OPENAI:
        return OPENAI[name], "openai"
    model, tag = architecture(name), name.split(":", 1)[1]
    if model not in open_clip.list_models():
        near = difflib.get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.3)
        raise UserError(f"MODEL.BACKBONE.NAME: open_clip has no architecture {model!r}. Nearest: {', '.join(near)}.")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UserError(
            f"MODEL.BACKBONE.NAME: open_clip has no weights {tag!r} for {model}. Its tags: {', '.join(tags) or 'none'}."
        )
    return model, tag


def effective_precision(precision: str, device: str | torch.device) -> tuple[str, str]:
    """The precision that runs on `device`, and a one-line message if it differs from `precision` (else "")."""
    if precision not in PRECISIONS:
        raise UserError(f"PREC: unknown precision {precision!r}, expected one of {', '.join(PRECISIONS)}.")
    if torch.device(device).type == "cpu" and precision in ("fp16", "amp"):
        return (
            "fp32",
            f"PREC {precision} needs a CUDA device: the towers run in fp32 here (the half precision of CPUs is bf16)",
        )
    return precision, ""


def load_backbone(
    name: str,
    *,
    weights: str = "",
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    cache: str | os.PathLike | None = None,
) -> CLIP:
    """The frozen model `name` in eval mode on `device`.

    Args:
        name: one of `available_models()`, an open_clip pair ARCHITECTURE:TAG, or a weight file.
        weights: a local weight file to use instead of the named weights.
        precision: one of PRECISIONS.
        device: of torch.
        cache: folder for downloads, see `fetch_weights`.

    Raises:
        UserError: unknown name, failed download, or unsuitable weights. The message says what to do.
        FileNotFoundError: `weights` does not exist.
    """
    check_name(name, weights)
    if name not in OPENAI and name != TINY and os.path.isfile(name):
        name, weights = Path(name).name, name
    path = Path(weights) if weights else fetch_weights(name, cache)
    tensors = read_state_dict(path)
    if _of_open_clip(name) and "token_remap" not in tensors:
        pretrained = {} if weights else open_clip.get_pretrained_cfg(*_pair(name))
        model = _build_open_clip(architecture(name), tensors, precision, pretrained)
    else:
        model = build_model(tensors, precision)
    model.name = name
    model.weights_hash = sha256(path)
    return model.to(device)


def weights_source(name: str) -> str:
    """Source of the weights of a named model: a URL, a repository of the Hugging Face hub, or the embedded file.

    OpenAI's names prefer the URL, which OpenAI published; pairs prefer the hub, as open_clip does.
    """
    if name == TINY:
        return str(TINY_FILE)
    found = open_clip.get_pretrained_cfg(*_pair(name))
    first, second = ("url", "hf_hub") if name in OPENAI else ("hf_hub", "url")
    return found.get(first) or found.get(second, "")


def fetch_weights(name: str, cache: str | os.PathLike | None = None) -> Path:
    """Path of the weight file of a named model or pair, downloaded on first use.

    A URL of OpenAI's models is downloaded into `cache` (default `~/.cache/clip`, OpenAI's own). For everything else
    open_clip's downloader is used, whose default is the cache of the Hugging Face hub.

    Raises UserError if the file cannot be downloaded, or is damaged.
    """
    source = weights_source(name)
    if name == TINY:
        if sha256(TINY_FILE) != TINY_SHA256:
            raise UserError(
                f"{source} is damaged (its SHA-256 is not {TINY_SHA256}): restore it with `git checkout -- {source}`."
            )
        return TINY_FILE
    if name in OPENAI and source.startswith(("http:", "https:")):
        return download(source, cache or cache_dir())
    found, unreachable = open_clip.get_pretrained_cfg(*_pair(name)), ""
    try:
        if found.get("hf_hub"):
            with hub_within_reach() as unreachable:
                return Path(open_clip.download_pretrained(found, cache_dir=str(cache) if cache else None))
        return download(source, cache or cache_dir())
    except UserError:
        raise
    except Exception as error:  # the downloaders have many classes of errors
        reason = unreachable or (str(error).splitlines() or [type(error).__name__])[0][:200]
        place = source if source.startswith("http") else f"the Hugging Face repository {source.rstrip('/')}"
        raise UserError(
            f"The weights of {name} cannot be downloaded ({reason}). "
            f"Download them by hand from {place} and give the file as MODEL.BACKBONE.WEIGHTS; "
            f"MODEL.BACKBONE.NAME stays {name}."
        ) from None


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


def _build_open_clip(model_name: str, tensors: dict[str, Tensor], precision: str, pretrained: dict) -> CLIP:
    """A frozen `CLIP` with open_clip's architecture `model_name`; `pretrained` is open_clip's entry for the weights."""
    stored = precision if DTYPES[precision] != torch.float32 else "fp32"  # amp keeps its weights in fp32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # open_clip warns that the weights are still random
        quick_gelu = bool(pretrained.get("quick_gelu"))
        # The weights of a text tower of Hugging Face come from the file, too. The name depends on open_clip's version.
        hub = {"pretrained_text", "pretrained_hf"} & set(inspect.signature(open_clip.create_model).parameters)
        try:
            inner = open_clip.create_model(
                model_name,
                pretrained=None,
                precision=stored,
                force_quick_gelu=quick_gelu,
                **dict.fromkeys(hub, False),
            )
        except (RuntimeError, ImportError, OSError) as error:  # such as a package or file that the tower needs
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(
                f"MODEL.BACKBONE.NAME: open_clip cannot build the architecture {model_name} ({reason})."
            ) from None
    load_strict(inner, tensors)
    model = finish(inner, precision)
    model.image_mean = tuple(pretrained.get("mean") or CLIP_MEAN)
    model.image_std = tuple(pretrained.get("std") or CLIP_STD)
    return model


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


def finish(inner: nn.Module, precision: str) -> CLIP:
    """Convert the matrices of a loaded open_clip model to `precision` and wrap the model."""
    if DTYPES[precision] != torch.float32:
        convert_weights_to_lp(inner, DTYPES[precision])
    return CLIP(inner, precision)
