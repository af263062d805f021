"""Write the parts of a classifier for open_clip: matrices, prompts, image tower, config.json, and use.py."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from clip.backbones import fetch_weights, weights_source
from clip.building import geometry
from clip.names import OPENAI, TINY, architecture, of_open_clip, pretrained_cfg
from clip.weights import read_state_dict
from dassl.config import method_name
from dassl.utils import UserError, versions
from softcpt.model import Classifier

from .parts import Matrix, Parts

CONFIG, MATRICES, PROGRAM = "config.json", "classifier.safetensors", "classifier.pt2"
TOWER, PROMPTS, SCRIPT = "image_tower.safetensors", "image_prompts.safetensors", "use.py"
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 64, "heads": 1, "layers": 1}  # a text tower that is not used


def preprocess_cfg(cfg) -> dict:
    """The preprocessing of test images in the words of open_clip's `PreprocessCfg`.

    Raises:
        UserError: open_clip has no words for it.
    """
    c = cfg.INPUT
    if c.NO_TRANSFORM or "instance_norm" in c.TRANSFORMS or c.INTERPOLATION == "nearest":
        raise UserError(
            f"INPUT: open_clip has no words for this preprocessing (INTERPOLATION {c.INTERPOLATION}, TRANSFORMS "
            f"{', '.join(c.TRANSFORMS)}, NO_TRANSFORM {c.NO_TRANSFORM}); expected bicubic or bilinear, and no "
            "instance_norm. Use the run with softcpt.load instead (docs/use.md)."
        )
    normal = "normalize" in c.TRANSFORMS
    return {
        "size": c.SIZE[0],
        "mode": "RGB",
        "mean": list(c.PIXEL_MEAN) if normal else [0.0, 0.0, 0.0],
        "std": list(c.PIXEL_STD) if normal else [1.0, 1.0, 1.0],
        "interpolation": c.INTERPOLATION,
        "resize_mode": c.RESIZE_MODE,
        "fill_color": 0,
    }


def backbone_of(cfg) -> dict:
    """Name and source of the backbone, and how open_clip builds it: `create_model(**create)` or `CLIP(**model_cfg)`.

    `model_cfg` is read from the shapes of a local file with OpenAI's layout, or of the embedded model. It has a
    stand-in for the text tower, which is not needed any more.
    """
    name, weights = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.WEIGHTS
    if of_open_clip(name) or (name in OPENAI and not weights):  # else the shapes of the weights decide
        whole = architecture(name) == name  # a folder or repository with its own configuration
        tag = "openai" if name in OPENAI else None if weights or whole else name.split(":", 1)[1]
        quick = name in OPENAI or bool(pretrained_cfg(name).get("quick_gelu"))
        create = {"model_name": architecture(name), "pretrained": tag, "force_quick_gelu": quick}
        return {"name": name, "source": weights or weights_source(name), "create": create}
    path = weights or (fetch_weights(name) if name == TINY else name)
    source = "embedded in the project" if name == TINY and not weights else Path(path).name
    return {
        "name": name,
        "source": source,
        "model_cfg": {**geometry(read_state_dict(path)), "text_cfg": NO_TEXT, "quick_gelu": True},
    }


def describe(model: Classifier, parts: Parts | None) -> dict:
    """The content of config.json, apart from what further exports add."""
    cfg, space = model.cfg, model.space
    tasks = [
        {"key": task.key, "name": task.name, "metric": task.metric, "classnames": list(task.classnames)}
        for task in space.tasks
    ]
    for position, task in enumerate(tasks):
        task["columns"] = [space.columns(position).start, space.columns(position).stop]
    found = {
        "format": 1,
        "method": method_name(cfg),
        "backbone": {**backbone_of(cfg), "weights_sha256": model.trainer.clip.weights_hash},
        "preprocess_cfg": preprocess_cfg(cfg),
        "exif_rotate": cfg.INPUT.EXIF_ROTATE,
        "tasks": tasks,
        "versions": {name: value for name, value in versions().items() if name != "platform"},
    }
    if parts is None:
        return found
    own = parts.changed or not (found["backbone"].get("create") or {}).get("pretrained")
    found["image_tower"] = TOWER if own else None
    found["image_prompts"] = {"file": PROMPTS, "after": parts.count} if parts.prompts else None
    if isinstance(parts.head, Matrix):
        form = {"unit_columns": parts.head.unit, "normalize": parts.head.normalize, "bias": parts.head.bias is not None}
        found["classifier"] = {"file": MATRICES, **form}
    else:
        found["classifier"] = {"file": PROGRAM, "input": "features (B, d), not normalised", "output": "logits (B, N)"}
    return found


def write_parts(folder: Path, model: Classifier, parts: Parts, config: dict) -> list[str]:
    """Write the files of `parts`, and use.py. Returns the names of the files of CLIP_benchmark's form."""
    benchmark = []
    if config["image_tower"]:
        tower = {name: value.contiguous() for name, value in parts.visual.state_dict().items()}
        (folder / TOWER).write_bytes(save(tower))  # `save_file` makes files that their owner alone can read
    if parts.prompts:
        (folder / PROMPTS).write_bytes(save({str(layer): value for layer, value in parts.prompts.items()}))
    if isinstance(parts.head, Matrix):
        tensors = {"scale": torch.tensor(parts.head.scale)}
        for position, key in enumerate(model.tasks):
            span = model.space.columns(position)
            tensors[f"{key}.weight"] = parts.head.weight[:, span].contiguous()
            if parts.head.bias is not None:
                tensors[f"{key}.bias"] = parts.head.bias[span].contiguous()
            elif not parts.changed and not parts.prompts:
                benchmark.append("classifier.pt" if len(model.tasks) == 1 else f"classifier-{key}.pt")
                torch.save(tensors[f"{key}.weight"], folder / benchmark[-1])
        (folder / MATRICES).write_bytes(save(tensors))
    else:
        _save_program(folder / PROGRAM, parts.head, parts.visual.output_dim, method_name(model.cfg))
    (folder / SCRIPT).write_text(script(config), encoding="utf-8")
    return benchmark


def _save_program(path: Path, head: torch.nn.Module, width: int, name: str) -> None:
    """Write `head` as a program of torch.export. Raises UserError if torch cannot record it."""
    batch = torch.export.Dim("batch")
    try:
        with torch.no_grad():
            found = torch.export.export(head, (torch.randn(3, width),), dynamic_shapes=({0: batch},), strict=False)
            torch.export.save(found, path)
    except Exception as error:  # torch raises nearly anything for a program that it cannot record
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"{name}: its logits are not a matrix, and torch.export cannot record them ({reason}). Use the run with "
            "softcpt.load (docs/use.md)."
        ) from None


def script(config: dict) -> str:
    """The text of use.py, a program of at most 15 lines that needs open_clip alone."""
    matrix, backbone = config["classifier"]["file"] == MATRICES, config["backbone"]
    lines = ["import json, pathlib, sys, open_clip, torch  # python use.py IMAGE ...: image, task, class, probability"]
    lines.append("from PIL import Image" + (", ImageOps" if config["exif_rotate"] else ""))
    lines += ["from safetensors.torch import load_file"] if matrix or config["image_tower"] or _prompts(config) else []
    lines.append("file = pathlib.Path(__file__).with_name")
    head = f'load_file(file("{MATRICES}"))' if matrix else f'torch.export.load(file("{PROGRAM}")).module()'
    lines.append(f'config, head = json.loads(file("{CONFIG}").read_text("utf-8")), {head}')
    if "create" in backbone:
        create = {**backbone["create"], **({"pretrained": None} if config["image_tower"] else {})}
        named = ", ".join(f"{key}={value!r}" for key, value in create.items())
        lines.append(f"visual = open_clip.create_model({named}).visual.eval().requires_grad_(False)")
    else:
        lines.append('visual = open_clip.CLIP(**config["backbone"]["model_cfg"]).visual.eval().requires_grad_(False)')
    if config["image_tower"]:
        lines.append(f'visual.load_state_dict(load_file(file("{TOWER}")))')
    if _prompts(config):
        after = config["image_prompts"]["after"]
        lines.append(f'for layer, new in load_file(file("{PROMPTS}")).items():  # they follow the {after} other tokens')
        lines.append(
            "    visual.transformer.resblocks[int(layer)].register_forward_pre_hook(lambda _, x, new=new: "
            f"(torch.cat([x[0][:, :{after}], new.expand(len(x[0]), -1, -1)], 1), *x[1:]))"
        )
    lines.append(
        "prepare = open_clip.transform.image_transform_v2("
        'open_clip.transform.PreprocessCfg(**config["preprocess_cfg"]), is_train=False)'
    )
    opened = "ImageOps.exif_transpose(Image.open(path))" if config["exif_rotate"] else "Image.open(path)"
    paths = 'sys.argv[1:] or sys.exit("usage: python use.py IMAGE ...")'
    lines.append(f'images = [{opened}.convert("RGBA") for path in {paths}]  # transparent pixels become white')
    white = 'Image.alpha_composite(Image.new("RGBA", i.size, "white"), i).convert("RGB")'
    features = f"visual(torch.stack([prepare({white}) for i in images]))"
    if matrix and config["classifier"]["normalize"]:
        features = f"torch.nn.functional.normalize({features}, dim=-1)"
    lines.append(f"features = {features}")
    lines.append('for task in config["tasks"]:')
    if matrix:
        bias = ' + head[task["key"] + ".bias"]' if config["classifier"]["bias"] else ""
        logits = f'(head["scale"] * features @ head[task["key"] + ".weight"]{bias})'
    else:
        logits = 'head(features)[:, slice(*task["columns"])]'
    lines.append(f"    for path, row in zip(sys.argv[1:], {logits}.softmax(-1)):")
    lines.append('        print(path, task["key"], task["classnames"][row.argmax()], f"{row.max():.6f}", sep="\\t")')
    return "\n".join([*lines, ""])


def _prompts(config: dict) -> bool:
    return bool(config["image_prompts"])


def differences(found: Tensor, expected: Tensor, space) -> float:
    """Largest difference of the probabilities of two logits (B, N), each task by itself."""
    spans = [space.columns(position) for position in range(space.num_tasks)]
    return max((found[:, s].softmax(-1) - expected[:, s].softmax(-1)).abs().max().item() for s in spans)
