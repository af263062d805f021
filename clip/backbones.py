"""Backbone name -> architecture + weights: OpenAI's models, any open_clip pair, a local file, the embedded model."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP as OpenClip
from open_clip.model import convert_weights_to_lp
from torch import Tensor, nn

from dassl.config import declare
from dassl.utils import UserError

from .model import CLIP, CLIP_MEAN, CLIP_STD, DTYPES
from .weights import cache_dir, download, expected_sha256, read_state_dict, sha256

declare("MODEL.BACKBONE.NAME", "RN50", help="a name of clip.available_models(), or an open_clip pair ARCHITECTURE:TAG")
declare("MODEL.BACKBONE.PRETRAINED", True, help="accepted for compatibility: a CLIP is always pretrained")
declare(
    "MODEL.BACKBONE.WEIGHTS", "", help="a local weight file (.pt, .pth, .safetensors) used instead of the named weights"
)

PRECISIONS = ("fp32", "fp16", "amp", "bf16")


@dataclass(frozen=True)
class Weights:
    """Where the weights of a named model lie and what its images must look like."""

    url: str
    size: int  # pixels of the square input

    @property
    def sha256(self) -> str | None:
        return expected_sha256(self.url)


def _openai(architecture: str, size: int) -> Weights:
    return Weights(open_clip.get_pretrained_cfg(architecture, "openai")["url"], size)


OPENAI = {
    "RN50": _openai("RN50", 224),
    "RN101": _openai("RN101", 224),
    "RN50x4": _openai("RN50x4", 288),
    "RN50x16": _openai("RN50x16", 384),
    "RN50x64": _openai("RN50x64", 448),
    "ViT-B/32": _openai("ViT-B-32", 224),
    "ViT-B/16": _openai("ViT-B-16", 224),
    "ViT-L/14": _openai("ViT-L-14", 224),
    "ViT-L/14@336px": _openai("ViT-L-14-336", 336),
}

TINY = "tiny"  # the embedded model: 64 px, pixels scaled to [-1, 1]
TINY_FILE = Path(__file__).parent / "weights" / "tinyclip.safetensors"
TINY_SHA256 = "782a45f947e370c4a665845aecba4de583af3949d72b8ba1274938f8f8fb923b"
TINY_MEAN = TINY_STD = (0.5, 0.5, 0.5)


def available_models() -> list[str]:
    """Names `clip.load` accepts: OpenAI's, the embedded `tiny`; besides them any open_clip pair and local files."""
    return [*OPENAI, TINY]


def input_size(name: str) -> int | None:
    """Pixels of the images backbone `name` takes, known before any weights are read; None for a local file."""
    if name in OPENAI:
        return OPENAI[name].size
    if name == TINY:
        return 64
    if ":" in name:
        architecture, _ = _pair(name)
        size = open_clip.get_model_config(architecture)["vision_cfg"].get("image_size", 224)
        return size if isinstance(size, int) else max(size)
    return None


def image_tower_kind(name: str, weights: str = "") -> str:
    """What the image tower of backbone `name` is, known before the model is built; of a local file by its tensors.

    "ViT" for one that reads [CLS]; else "a ResNet", "a ViT with a pool", or timm's name of it.
    """
    architecture = name.split(":")[0].replace("/", "-")
    if name not in OPENAI and architecture in open_clip.list_models():
        vision = open_clip.get_model_config(architecture)["vision_cfg"]
        if "timm_model_name" in vision:
            return vision["timm_model_name"]
        if isinstance(vision.get("layers"), (list, tuple)):
            return "a ResNet"
        pooled = vision.get("attentional_pool") or vision.get("pool_type", "tok") != "tok"
        return "a ViT with a pool" if pooled else "ViT"
    path = weights or (name if name not in OPENAI and name != TINY else "")
    resnet = "visual.attnpool.positional_embedding" in read_state_dict(path) if path else name.startswith("RN")
    return "a ResNet" if resnet else "ViT"


def check_name(name: str, weights: str = "") -> None:
    """Raise UserError for a backbone that does not exist, naming the nearest ones; FileNotFoundError for a missing
    file.
    """
    if weights and not os.path.isfile(weights):
        raise FileNotFoundError(f"MODEL.BACKBONE.WEIGHTS: no file at {weights}")
    if name in OPENAI or name == TINY or os.path.isfile(name):
        return
    if weights and name.split(":")[0].replace("/", "-") in open_clip.list_models():
        return  # the architecture is open_clip's, the weights are the file's
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
    architecture, tag = name.split(":", 1)
    architecture = architecture.replace("/", "-")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if architecture not in open_clip.list_models():
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=3, cutoff=0.3)
        raise UserError(
            f"MODEL.BACKBONE.NAME: open_clip has no architecture {architecture!r}. Nearest: {', '.join(near)}."
        )
    if tag not in tags:
        raise UserError(
            f"MODEL.BACKBONE.NAME: open_clip has no weights {tag!r} for {architecture}. "
            f"Its tags: {', '.join(tags) or 'none'}."
        )
    return architecture, tag


def effective_precision(precision: str, device: str | torch.device) -> tuple[str, str]:
    """The precision that can run on `device`, and one line saying so when it is not the one asked for (else "")."""
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
    """The frozen model `name`, optionally with the weights of a local file, in eval mode on `device`.

    Raises UserError or FileNotFoundError with what is missing and how to get it.
    """
    check_name(name, weights)
    if name not in OPENAI and name != TINY and os.path.isfile(name):
        name, weights = Path(name).name, name
    if weights:
        model, path = _from_file(name, weights, precision)
    elif name in OPENAI:
        path = download(OPENAI[name].url, cache or cache_dir())
        model = build_model(read_state_dict(path), precision)
    elif name == TINY:
        path = TINY_FILE
        if sha256(path) != TINY_SHA256:
            raise UserError(
                f"{path} is damaged (its SHA-256 is not {TINY_SHA256}): restore it with `git checkout -- {path}`."
            )
        model = _tiny(read_state_dict(path), precision)
    else:
        model, path = _from_open_clip(name, precision, cache)
    model.name = name
    model.weights_hash = sha256(path)
    return model.to(device)


def expand_tiny(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The embedded model's weights with all 49,408 words: `token_remap` sends each to its row of a reduced table."""
    remap = tensors["token_remap"].long()
    whole = {name: value for name, value in tensors.items() if name != "token_remap"}
    return {**whole, "token_embedding.weight": tensors["token_embedding.weight"][remap]}


def _tiny(tensors: dict[str, Tensor], precision: str) -> CLIP:
    model = build_model(expand_tiny(tensors), precision)
    model.image_mean, model.image_std = TINY_MEAN, TINY_STD
    return model


def _from_file(name: str, weights: str, precision: str) -> tuple[CLIP, Path]:
    path = Path(weights)
    tensors = read_state_dict(path)
    if "token_remap" in tensors:
        return _tiny(tensors, precision), path
    if name not in OPENAI and name.split(":")[0].replace("/", "-") in open_clip.list_models():
        inner = _architecture(name.split(":")[0].replace("/", "-"), precision)
        load_strict(inner, _reshaped(inner, tensors))
        return finish(inner, precision), path
    return build_model(tensors, precision), path


def _from_open_clip(name: str, precision: str, cache: str | os.PathLike | None) -> tuple[CLIP, Path]:
    architecture, tag = _pair(name)
    found = open_clip.get_pretrained_cfg(architecture, tag)
    try:
        path = Path(open_clip.download_pretrained(found, cache_dir=str(cache) if cache else None))
    except Exception as error:
        place = (
            f"the Hugging Face repository {found['hf_hub'].rstrip('/')}" if found.get("hf_hub") else found.get("url")
        )
        raise UserError(
            f"The weights of {name} cannot be downloaded ({str(error).splitlines()[0][:200]}). "
            f"Fetch them by hand from {place} and give the file as MODEL.BACKBONE.WEIGHTS; "
            f"MODEL.BACKBONE.NAME stays {name}."
        ) from None
    inner = _architecture(architecture, precision, bool(found.get("quick_gelu")))
    load_strict(inner, _reshaped(inner, read_state_dict(path)))
    model = finish(inner, precision)
    model.image_mean = tuple(found.get("mean") or CLIP_MEAN)
    model.image_std = tuple(found.get("std") or CLIP_STD)
    return model, path


def _architecture(name: str, precision: str, quick_gelu: bool = False) -> nn.Module:
    """open_clip's model `name` with random weights."""
    stored = precision if DTYPES[precision] != torch.float32 else "fp32"  # open_clip's name; amp keeps weights in fp32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the weights are random
        return open_clip.create_model(name, pretrained=None, precision=stored, force_quick_gelu=quick_gelu)


def _reshaped(inner: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars are stored as () or (1,) by different versions: take the architecture's shape."""
    want = inner.state_dict()
    return {
        key: value.reshape(want[key].shape) if key in want and value.numel() == want[key].numel() == 1 else value
        for key, value in tensors.items()
    }


def geometry(state_dict: dict[str, Tensor]) -> dict:
    """Widths, layers and sizes of an OpenAI-style CLIP, read off its tensors: keyword arguments of open_clip's CLIP."""
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


def build_model(state_dict: dict[str, Tensor], precision: str = "fp32", quick_gelu: bool = True) -> CLIP:
    """A frozen `CLIP` from OpenAI-style weights, all dimensions read off the tensors.

    Loaded in fp32 and converted afterwards: open_clip's own builder for OpenAI's files rounds every weight to fp16 on
    the way.
    """
    extra = {"input_resolution", "context_length", "vocab_size"}  # plain numbers inside OpenAI's archives
    weights = {name: value.float() for name, value in state_dict.items() if name not in extra}
    cast = DTYPES[precision] if DTYPES[precision] != torch.float32 else None
    inner = OpenClip(**geometry(weights), quick_gelu=quick_gelu, cast_dtype=cast)
    weights["logit_scale"] = weights["logit_scale"].reshape(inner.logit_scale.shape)
    load_strict(inner, weights)
    return finish(inner, precision)


def load_strict(inner: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load every tensor, refusing missing, unexpected and misshapen ones by name. Buffers that are recomputed may be
    absent.
    """
    try:
        missing, unexpected = inner.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UserError(f"The weights do not fit the architecture: {' '.join(str(error).split()[:60])}") from None
    recomputed = ("attn_mask", "position_ids", "num_batches_tracked")
    missing = [name for name in missing if not name.endswith(recomputed)]
    unexpected = [name for name in unexpected if not name.endswith(recomputed)]
    if found := [_some(names, what) for names, what in ((missing, "missing"), (unexpected, "unexpected")) if names]:
        raise UserError(f"The weights do not fit the architecture: {', '.join(found)}.")


def _some(names: list[str], what: str) -> str:
    count = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{count} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def finish(inner: nn.Module, precision: str) -> CLIP:
    """Wrap a loaded open_clip model and bring its matrices to the towers' precision."""
    if DTYPES[precision] != torch.float32:
        convert_weights_to_lp(inner, DTYPES[precision])
    return CLIP(inner, precision)
