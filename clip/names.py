"""What is known of a backbone by its name, before weights are read: architecture, towers, image size, tokenizer."""

from __future__ import annotations

import difflib
import os
from functools import lru_cache
from pathlib import Path

import open_clip

from dassl.utils import read_json
from dassl.utils.errors import UserError, near_path

from .weights import hub_within_reach, read_state_dict

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
FOLDER, HUB = "local-dir:", "hf-hub:"  # open_clip's names for a folder or repository with a model and its tokenizer
CONFIG = "open_clip_config.json"  # its file with architecture and preprocessing


def available_models() -> list[str]:
    """The named models of `clip.load`: OpenAI's and the embedded `tiny`. It also takes open_clip pairs and files."""
    return [*OPENAI, TINY]


def architecture(name: str) -> str:
    """open_clip's name of the architecture of backbone `name`."""
    return name if name.startswith((FOLDER, HUB)) else OPENAI.get(name) or name.split(":")[0].replace("/", "-")


def of_open_clip(name: str) -> bool:
    """Whether open_clip's configuration defines the architecture of `name`; the weights' shapes define all others."""
    return name not in OPENAI and bool(model_config(name))


@lru_cache(maxsize=1024)
def model_config(name: str) -> dict:
    """open_clip's configuration of the architecture of `name`, which must not be changed; {}: open_clip has none.

    Raises UserError for a folder or a repository (names `local-dir:FOLDER` and `hf-hub:ORG/REPOSITORY`) without one.
    """
    if name.startswith((FOLDER, HUB)):
        return _released(name)["model_cfg"]
    return open_clip.get_model_config(architecture(name)) or {}


@lru_cache(maxsize=64)
def _released(name: str) -> dict:
    """The content of the open_clip_config.json of a folder or repository. Raises UserError: there is none."""
    kind, _, where = name.partition(":")
    try:
        if kind + ":" == FOLDER:
            path = Path(where) / CONFIG
        else:
            from huggingface_hub import hf_hub_download

            with hub_within_reach():
                path = hf_hub_download(where, CONFIG)
        found = read_json(path)
        if not {"text_cfg", "vision_cfg"} <= found["model_cfg"].keys():
            raise KeyError("model_cfg with text_cfg and vision_cfg")
        return found
    except Exception as error:  # the client of the hub has many classes of errors
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"MODEL.BACKBONE.NAME {name}: no model of open_clip can be read from {where} ({reason}). Expected "
            f"{CONFIG}, weights and tokenizer files, as open_clip publishes models; a local folder is {FOLDER}PATH."
        ) from None


def input_size(name: str) -> int | None:
    """Image size in pixels of backbone `name`, known before any weights are read. None for a local file."""
    if name == TINY:
        return 64
    if not (config := model_config(name)):
        return None
    size = config["vision_cfg"].get("image_size", 224)
    return size if isinstance(size, int) else max(size)


def image_tower_kind(name: str, weights: str = "") -> str:
    """Kind of the image tower of backbone `name`, known before the model is built.

    "ViT" for a ViT that reads [CLS], "a ViT with a pool", "a ResNet", or timm's name of the tower. For a local file
    (`weights`, or `name` itself) its tensors are read.
    """
    if of_open_clip(name) or (name in OPENAI and not weights):
        vision = model_config(name)["vision_cfg"]
        if "timm_model_name" in vision:
            return vision["timm_model_name"]
        if isinstance(vision.get("layers"), (list, tuple)):
            return "a ResNet"
        pooled = vision.get("attentional_pool") or vision.get("pool_type", "tok") != "tok"
        return "a ViT with a pool" if pooled else "ViT"
    if name == TINY and not weights:
        return "ViT"
    return "a ResNet" if "visual.attnpool.positional_embedding" in read_state_dict(weights or name) else "ViT"


def text_tower_kind(name: str) -> str:
    """Kind of the text tower of backbone `name`, known before the model is built.

    "causal" for CLIP's, whose prompts share what they begin with; "plain" for another transformer of open_clip, which
    computes every token; "Hugging Face" for a tower that takes prompts at its input only.
    """
    if not of_open_clip(name):
        return "causal"  # a file with OpenAI's layout
    text = model_config(name)["text_cfg"]
    if text.get("hf_model_name"):
        return "Hugging Face"
    causal = not text.get("no_causal_mask") and not text.get("embed_cls")
    return "causal" if causal and text.get("pool_type", "argmax") in ("argmax", "eos") else "plain"


def context_length(name: str) -> int:
    """Largest number of tokens of a prompt of backbone `name`, its start and end token among them."""
    return model_config(name).get("text_cfg", {}).get("context_length", 77)


def tokenizer_name(name: str) -> str:
    """The tokenizer of backbone `name` on the Hugging Face hub; "" for CLIP's own."""
    return model_config(name)["text_cfg"].get("hf_tokenizer_name") or "" if of_open_clip(name) else ""


def pretrained_cfg(name: str) -> dict:
    """open_clip's entry for the weights of backbone `name` (preprocessing, activation, source); {}: it has none."""
    if name.startswith((FOLDER, HUB)):
        return _released(name).get("preprocess_cfg", {})
    tag = "openai" if name in OPENAI else name.partition(":")[2]
    return (open_clip.get_pretrained_cfg(architecture(name), tag) or {}) if tag else {}


def check_name(name: str, weights: str = "") -> None:
    """Raise UserError for an unknown backbone, naming the nearest ones; FileNotFoundError for a missing file."""
    if weights and not os.path.isfile(weights):
        raise FileNotFoundError(f"MODEL.BACKBONE.WEIGHTS: no file at {weights}{near_path(weights)}")
    if name in OPENAI or name == TINY or os.path.isfile(name):
        return
    if (weights or name.startswith((FOLDER, HUB))) and of_open_clip(name):
        return  # the architecture comes from open_clip, the weights from the file
    if ":" in name:
        pair(name)
        return
    alias = {key.replace("/", "-").lower(): key for key in OPENAI}
    near = difflib.get_close_matches(name.replace("/", "-").lower(), alias, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(alias[key] for key in near)}?" if near else ""
    raise UserError(
        f"MODEL.BACKBONE.NAME: unknown backbone {name!r}.{hint} Available: {', '.join(available_models())}, "
        "an open_clip pair such as ViT-B-16:laion2b_s34b_b88k (python -m clip.backbones lists them), or a local file "
        "as MODEL.BACKBONE.WEIGHTS."
    )


def pair(name: str) -> tuple[str, str]:
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
