"""Attention maps of visual prompts: Zang et al., "Unified Vision and Language Prompt Learning", Fig. 6.

    python -m analysis.attention RUN IMAGE [IMAGE ...] [--task faces] [--layer -1]

For each image, the figure shows the attention of [CLS] and of every visual prompt to the patches in one layer, averaged
over the heads, on top of the image after the test transform. The weights of one query ([CLS] or a prompt) sum to 1 over
[CLS], prompts and patches; the text below each map states the share of the patches. The CSV contains every weight.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from analysis import plots
from analysis.runs import open_run, run_parser
from clip.additions import Additions
from dassl import program
from dassl.config import method_name
from dassl.data.images import read_image
from dassl.data.transforms import build_transform
from dassl.utils import UserError
from softcpt.images import entries

COLUMNS = ("image", "layer", "query", "key", "patch_row", "patch_column", "weight")
SIDE = 1.35  # width and height of a panel in inches
MOST = 40  # largest number of images in one figure


def check(trainer) -> None:
    """Raise UserError for a run without tokens in the image tower."""
    if (added := image_additions(trainer)) is None or added.tokens is None:
        raise UserError(
            f"a run of {method_name(trainer.cfg)} on {trainer.clip.name} has no prompts in the image tower: expected "
            "one of VPT, UPT or MTUPT on a ViT"
        )


def image_additions(trainer) -> Additions | None:
    """Additions of the run's method to the image tower at test time; None if the method adds nothing."""
    return trainer.additions().image


def own_task(trainer, wanted: str | None) -> int | None:
    """Index of the task whose prompts are shown; None if all tasks use the same prompts.

    Raises UserError if each task has its own prompts and `wanted` does not select one task.
    """
    tasks = trainer.space.positions(wanted)
    if not trainer.by_task:
        return None
    if len(tasks) > 1:
        there = ", ".join(task.key for task in trainer.space.tasks)
        raise UserError(f"every task of this run has its own visual prompts: choose one with --task, of {there}")
    return tasks[0]


@torch.no_grad()
def attention(trainer, images: Tensor, layer: int, task: int | None = None) -> Tensor:
    """Attention weights (B, S, S) of `layer`, averaged over heads; rows are queries, columns are keys.

    Args:
        images: (B, 3, H, W). S = 1 + K + P: [CLS], K prompts, P patches.
        layer: index from 0, or negative from the end.
        task: index of the task whose prompts are used; None if all tasks use the same prompts.

    Raises:
        UserError: the image tower does not have this layer.
    """
    layers = trainer.image_tower.require_prompts()[0]
    if not -layers <= layer < layers:
        raise UserError(f"--layer {layer}: the image tower has layers 0 to {layers - 1}, the last one is also -1")
    layer %= layers
    tasks = None if task is None else torch.full((len(images),), task, device=trainer.device)
    with trainer.autocast():
        added = image_additions(trainer).take(tasks)
        *_, seen = trainer.image_tower(images.to(trainer.device), added, attention=[layer])
    return seen[layer].float().mean(1).cpu()


def table(path: str, layer: int, weights: Tensor, side: int) -> list[dict]:
    """Rows of COLUMNS for one image with weights (S, S); the queries are [CLS] and the prompts.

    side: number of patches along one side of the image.
    """
    count = len(weights) - side * side
    names = ["[CLS]", *(f"prompt {k}" for k in range(1, count))]
    keys = [(name, "", "") for name in names] + [("patch", i // side, i % side) for i in range(side * side)]
    return [
        dict(zip(COLUMNS, (path, layer, query, *key, weight), strict=True))
        for query, row in zip(names, weights[:count].tolist(), strict=True)
        for key, weight in zip(keys, row, strict=True)
    ]


def picture(trainer, image: Tensor) -> np.ndarray:
    """Grey values (H, W) in [0, 1] of a normalised image (3, H, W)."""
    mean, std = (torch.tensor(trainer.cfg.INPUT[key]).view(3, 1, 1) for key in ("PIXEL_MEAN", "PIXEL_STD"))
    red, green, blue = (image * std + mean).clamp(0, 1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).numpy()


def draw(figure, trainer, paths: list[str], images: Tensor, weights: Tensor, side: int, shown: int) -> None:
    """Draw one row per image: the image, then the maps of [CLS], of the mean of all prompts, and of the first `shown`
    prompts. images (B, 3, H, W), weights (B, S, S).
    """
    count = weights.shape[1] - side * side - 1
    heads = ["image", "[CLS]", "mean of prompts", *(f"prompt {k + 1}" for k in range(min(shown, count)))]
    panels = figure.subplots(len(paths), len(heads), squeeze=False)
    for row, path, image, seen in zip(panels, paths, images, weights, strict=True):
        onto = seen[: count + 1, count + 1 :]  # (1 + K, P)
        maps = [onto[0], onto[1:].mean(0), *onto[1 : 1 + shown]]
        grey = picture(trainer, image)
        H, W = grey.shape
        for axes in row:
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(0, W, H, 0))
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(plots.wrapped(path.replace("\\", "/").rsplit("/", 1)[-1], 20), fontsize=7)
        for axes, found in zip(row[1:], maps, strict=True):
            top = found.max().item()
            scaled = (found / (top or 1)).view(side, side).numpy()
            laid = axes.imshow(scaled, cmap=plots.MAP, vmin=0, vmax=1, alpha=0.65, extent=(0, W, H, 0))
            axes.set_xlabel(f"{100 * found.sum():.0f} % on patches\nlargest {100 * top:.1f} %", fontsize=7)
    for axes, head in zip(panels[0], heads, strict=True):
        axes.set_title(head, fontsize=8)
    bar = figure.colorbar(laid, ax=panels[:, -1].tolist(), fraction=0.08, aspect=18)
    bar.set_label("weight / largest of the panel", fontsize=7)
    bar.ax.tick_params(labelsize=7)


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = run_parser("attention", __doc__, "folder of a finished run of VPT, UPT or MTUPT")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders of images")
    parser.add_argument(
        "--task", metavar="NAME", help="key, name or number of the task, if every task has its own prompts"
    )
    parser.add_argument(
        "--layer", metavar="N", type=int, default=-1, help="from 0, or negative from the end (default -1: the last)"
    )
    parser.add_argument(
        "--prompts", metavar="N", type=int, default=8, help="number of prompts with their own panel (default 8)"
    )
    options = parser.parse_args(arguments)

    out = plots.output(options.out, options.run, "attention")
    found = entries(options.images)
    if gone := [entry.error for entry in found if entry.error]:
        raise FileNotFoundError(f"no such image: {', '.join(gone[:5])}" + (", ..." if len(gone) > 5 else ""))
    paths = [entry.path for entry in found]
    if len(paths) > MOST:
        raise UserError(f"{len(paths)} images: a figure has room for {MOST}, give fewer at a time")
    trainer = open_run(options.run, options.load_epoch)
    check(trainer)
    task = own_task(trainer, options.task)
    transform = build_transform(trainer.cfg, is_train=False)
    images = torch.stack([transform(read_image(path, trainer.cfg.INPUT.EXIF_ROTATE)) for path in paths])
    weights = attention(trainer, images, options.layer, task)
    side = trainer.image_tower.size // trainer.image_tower.require_prompts()[2]
    layer = options.layer % trainer.image_tower.require_prompts()[0]
    rows = [row for path, own in zip(paths, weights, strict=True) for row in table(path, layer, own, side)]
    prompts = weights.shape[1] - side * side - 1
    panels = 3 + min(max(options.prompts, 0), prompts)
    with plots.figure(out, COLUMNS, rows, SIDE * panels + 1, 0.5 + (SIDE + 0.4) * len(paths)) as figure:
        draw(figure, trainer, paths, images, weights, side, max(options.prompts, 0))
        owner = "" if task is None else f", prompts of {trainer.space.tasks[task].name}"
        figure.suptitle(f"{method_name(trainer.cfg)}, layer {layer}{owner}", fontsize=9)
    for path, seen in zip(paths, weights, strict=True):
        on = 100 * seen[: 1 + prompts, 1 + prompts :].sum(1)
        print(f"{path}: on patches, [CLS] {on[0]:.1f} %, prompts {on[1:].mean():.1f} % (layer {layer})")


if __name__ == "__main__":
    sys.exit(main())
