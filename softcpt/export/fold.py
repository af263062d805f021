"""A classifier as an ordinary image classifier of timm: the matrix becomes the last layer of the image tower.

timm's networks have no normalisation between feature and last layer. Its place takes a constant, the mean norm of the
features. So the most probable class is the same for every image, and probabilities are those of another temperature for
features whose norm differs from the mean.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from open_clip.transformer import VisionTransformer
from safetensors.torch import save
from torch import Tensor, nn

from clip.image_tower import ImageTower
from dassl.config import method_name
from dassl.utils import UserError
from softcpt.model import Classifier

from .parts import Matrix, Parts

RENAMED = (  # open_clip's names of parameters -> timm's, in this order
    ("conv1.", "patch_embed.proj."),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    ("ln_1.", "norm1."),
    ("ln_2.", "norm2."),
    ("attn.in_proj_", "attn.qkv."),
    ("attn.out_proj.", "attn.proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)


def refusal(model: Classifier, parts: Parts | None) -> str:
    """Why the classifier cannot be folded into its tower, or ""."""
    name = method_name(model.cfg)
    if parts is None or not isinstance(parts.head, Matrix):
        return f"{name} is not a matrix on the feature of the image tower"
    if parts.head.bias is not None and parts.head.normalize:
        return f"{name} has a bias beside normalised features, and timm's networks do not normalise"
    if parts.prompts:
        return f"{name} adds prompts to the image tower, which timm's networks do not have"
    tower = ImageTower(model.trainer.clip)
    try:
        tower.require_prompts()  # a plain ViT of open_clip that reads [CLS]
    except UserError:
        return f"the image tower is a {type(parts.visual).__name__}, not a plain ViT that reads its class token"
    return "" if _fits(parts.visual) else "its ViT has parts that timm's vit_*_clip_* lacks"


def _fits(visual: nn.Module) -> bool:
    known = isinstance(visual, VisionTransformer) and not hasattr(visual, "patchnorm_pre_ln")
    scaled = any(isinstance(block.ls_1, nn.Identity) is False for block in visual.transformer.resblocks)
    return known and visual.proj is not None and not scaled and isinstance(visual.ln_pre, nn.LayerNorm)


def write_folded(folder: Path, model: Classifier, parts: Parts, preprocess: dict, images: Tensor) -> list[str]:
    """Write one image classifier per task, which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    There must be no `refusal`. The classifiers are compared with the run on `images`. Returns the names of the folders.

    Raises:
        UserError: timm computes other classes than the run.
    """
    with torch.no_grad():
        norm = parts.visual(images).norm(dim=-1).mean().item() if parts.head.normalize else 1.0
    expected, written = parts.logits(images), []
    for position, task in enumerate(model.space.tasks):
        span = model.space.columns(position)
        place = folder / ("timm" if len(model.tasks) == 1 else f"timm-{task.key}")
        place.mkdir()
        weight = parts.visual.proj @ parts.head.weight[:, span] * (parts.head.scale / norm)  # (W, C)
        bias = torch.zeros(weight.shape[1]) if parts.head.bias is None else parts.head.bias[span]
        tensors = {**_renamed(parts.visual), "head.weight": weight.t().contiguous(), "head.bias": bias.clone()}
        (place / "model.safetensors").write_bytes(save(tensors))
        config = _config(parts.visual, task, preprocess)
        (place / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
        found, own = _loaded(place)(images), expected[:, span]
        others = found.argmax(-1) != own.argmax(-1)
        best = own.topk(min(2, own.shape[1])).values
        if others.any() and (best[others, 0] - best[others, -1]).max() > 1e-3:
            raise UserError(f"--fold: timm computes other classes than the run for {int(others.sum())} images")
        written.append(place.name)
    return written


def _renamed(visual: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, value in visual.state_dict().items():
        if name == "class_embedding":
            found["cls_token"] = value[None, None]
        elif name == "positional_embedding":
            found["pos_embed"] = value[None]
        elif name != "proj":
            for old, new in RENAMED:
                name = name.replace(old, new)
            found[name] = value
    return {name: value.contiguous().clone() for name, value in found.items()}


def _config(visual: nn.Module, task, preprocess: dict) -> dict:
    blocks, conv = visual.transformer.resblocks, visual.conv1
    quick = type(blocks[0].mlp.gelu).__name__ == "QuickGELU"
    width, size, patch = conv.weight.shape[0], preprocess["size"], conv.weight.shape[-1]
    return {
        "architecture": "vit_base_patch16_clip_quickgelu_224" if quick else "vit_base_patch16_clip_224",
        "num_classes": len(task.classnames),
        "num_features": width,
        "global_pool": "token",
        "model_args": {
            "img_size": size,
            "patch_size": patch,
            "embed_dim": width,
            "depth": len(blocks),
            "num_heads": blocks[0].attn.num_heads,
            "mlp_ratio": blocks[0].mlp.c_fc.out_features / width,
        },
        "label_names": list(task.classnames),
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "num_classes": len(task.classnames),
            "mean": preprocess["mean"],
            "std": preprocess["std"],
            "interpolation": preprocess["interpolation"],
            "crop_pct": 1.0,
            "crop_mode": "squash" if preprocess["resize_mode"] == "squash" else "center",
            "fixed_input_size": True,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


@torch.no_grad()
def _loaded(folder: Path):
    import timm

    return torch.no_grad()(timm.create_model(f"local-dir:{folder}", pretrained=True).eval())
