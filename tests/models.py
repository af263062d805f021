"""Small random CLIPs of both tower kinds for unit tests, and the embedded one for tests that need meaning."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from open_clip.model import CLIP as OpenClip

from clip.backbones import load_backbone
from clip.building import finish
from clip.model import CLIP
from tests.parity.runner import load_clip

CASES = Path(__file__).parent / "parity" / "cases"


@cache
def tiny_vit() -> CLIP:
    """Random ViT: image 32, patch 8, text width 64, joint dim 48, 3 layers."""
    return _with_all_words(load_clip(CASES / "clip_vit.npz"))


@cache
def tiny_rn() -> CLIP:
    """Random ResNet: image 64, layers 1-1-1-1, text width 64, joint dim 48."""
    return _with_all_words(load_clip(CASES / "clip_rn.npz"))


@cache
def uneven_vit() -> CLIP:
    """Random ViT whose towers differ: image 32, patch 8, image width 128, 4 layers; text width 64, 2 layers; d 48."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = {"layers": 4, "width": 128, "patch_size": 8, "head_width": 64, "image_size": 32}
        text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
        inner = OpenClip(embed_dim=48, vision_cfg=vision, text_cfg=text, quick_gelu=True)
        inner.positional_embedding.data.normal_(std=0.1)
    model = finish(inner, "fp32")
    model.name = "uneven"
    return model


def _with_all_words(model: CLIP) -> CLIP:
    """The cases store the embeddings of their own words only; every other word gets a random one here."""
    table = model.token_embedding.weight.data
    rows = torch.randn(table.shape, generator=torch.Generator().manual_seed(0)) * table[table.any(1)].std()
    table.copy_(torch.where(table.any(1, keepdim=True), table, rows))
    return model


@cache
def embedded() -> CLIP:
    """The shipped tiny CLIP in fp32 on the CPU."""
    return load_backbone("tiny")


def state_dict(model: CLIP) -> dict[str, torch.Tensor]:
    """OpenAI-style weights of a model."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item()
