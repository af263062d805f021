"""All backbones and what works on each, known by name (`python -m clip.backbones`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import open_clip

from dassl.utils import UserError

from .model import CLIP_MEAN, CLIP_STD
from .names import (
    OPENAI,
    TINY,
    check_name,
    context_length,
    image_tower_kind,
    input_size,
    pretrained_cfg,
    text_tower_kind,
    tokenizer_name,
)

HEADS = {  # column of the table: its head
    "name": "MODEL.BACKBONE.NAME",
    "text": "text",
    "length": "tokens",
    "prompts": "prompts",
    "image": "image",
    "pixels": "pixels",
    "image_prompts": "prompts",
    "image_outputs": "outputs",
    "tokenizer": "tokenizer",
}
LEGEND = """
text: causal (prompts share what they begin with), plain (every token is computed), hf (a Hugging Face model)
prompts: layers of the text tower and of the image tower that take prompts and low-rank changes
outputs: all, or features: without local tokens, outputs of prompt tokens and features before a last projection
tokenizer: every one but CLIP's needs `pip install -r requirements-hf.txt` and files of the Hugging Face hub
"""
KINDS = {"causal": "causal", "plain": "plain", "Hugging Face": "hf"}  # kinds of text towers as words without spaces


@dataclass
class Backbone:
    """A backbone as its name tells.

    Attributes:
        name: a value of MODEL.BACKBONE.NAME.
        text: causal (prompts share what they begin with), plain (every token is computed) or hf (Hugging Face).
        length: largest number of tokens of a prompt, start and end token among them.
        prompts: layers of the text tower that take prompts and low-rank changes: all, or input.
        image: kind of the image tower, see `image_tower_kind`.
        pixels: side of an image.
        image_prompts: layers of the image tower that take prompts and low-rank changes: all, or none.
        image_outputs: all, or features: no local tokens and no features before a last projection.
        tokenizer: CLIP, or a tokenizer of the Hugging Face hub (which needs the package transformers).
    """

    name: str
    text: str
    length: int
    prompts: str
    image: str
    pixels: int
    image_prompts: str
    image_outputs: str
    tokenizer: str


def all_names() -> list[str]:
    """OpenAI's names, the embedded model, and all pairs ARCHITECTURE:TAG of the installed open_clip."""
    return [*OPENAI, TINY, *(":".join(pair) for pair in open_clip.list_pretrained())]


def describe(name: str) -> Backbone:
    """What is known of the backbone `name`."""
    text, image = text_tower_kind(name), image_tower_kind(name)
    return Backbone(
        name,
        KINDS[text],
        context_length(name),
        "input" if text == "Hugging Face" else "all",
        image.removeprefix("a "),
        input_size(name),
        "all" if "ViT" in image else "none",
        "all" if image in ("ViT", "a ResNet") else "features",
        tokenizer_name(name) or "CLIP",
    )


def table(found: list[Backbone]) -> str:
    """The backbones as a table of plain text, with a summary."""
    rows = [list(HEADS.values()), *([str(value) for value in asdict(each).values()] for each in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    total, deep = len(found), sum(each.prompts == "all" for each in found)
    images = sum(each.image_prompts == "all" for each in found)
    return "\n".join(
        [
            *lines,
            LEGEND,
            f"{total} backbones. Text prompts at the input: {total}, in all layers: {deep}. Image prompts: {images}.",
            "Frozen image features, and all methods that need no more, work on every backbone.",
        ]
    )


def as_yaml(name: str) -> str:
    """Settings of a configuration for backbone `name`: its name and the preprocessing that it was trained with."""
    check_name(name)
    if not (size := input_size(name)):
        raise UserError(f"{name}: a weight file does not tell its preprocessing; give a name of open_clip")
    cfg = pretrained_cfg(name)
    tiny = [0.5, 0.5, 0.5]
    mean, std = (tiny, tiny) if name == TINY else (cfg.get("mean") or CLIP_MEAN, cfg.get("std") or CLIP_STD)
    return "\n".join(
        [
            "INPUT:",
            f"  SIZE: ({size}, {size})",
            f'  INTERPOLATION: "{cfg.get("interpolation") or "bicubic"}"',
            f'  RESIZE_MODE: "{cfg.get("resize_mode") or "shortest"}"',
            f"  PIXEL_MEAN: {list(mean)}",
            f"  PIXEL_STD: {list(std)}",
            "MODEL:",
            "  BACKBONE:",
            f'    NAME: "{name}"',
        ]
    )
