"""Prompts in the image tower: forward and backward pass of a batch of images from several tasks.

python -m benchmarks.visual_prompts --backbone ViT-B/16 --images 32 --tasks 10
python -m benchmarks.visual_prompts --images 32 --tasks 1 --methods    time and memory of the methods' image sides

The plain side inserts the prompts among the tokens of each image and computes all tokens in all layers of open_clip's
frozen tower with autograd. Ours is `clip/image_tower.py`. Both compute the gradient of the prompts of each task. With
--methods, a row for each method, in its published geometry: with the outputs of the prompts (MMRL), and with the pass
of the frozen tower that its loss needs (PromptSRC, MMRL, CoPrompt).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

import torch
from torch import Tensor

from clip.additions import Additions, Tokens
from clip.image_tower import ImageTower
from clip.model import CLIP
from dassl.utils import UserError

from .common import backbone, options, positive, start
from .measuring import SIDES, add_image_options, add_memory_per_image, compare, images_of, report, row, settings

KEPT = 20  # numbers that the plain side keeps per number of a token and layer, roughly
SHAPE = {"first": 0, "layers": 0, "keep": False, "teacher": False, "bank": False}
METHODS = {  # geometry of each method's image side: prompts per layer, and what differs from SHAPE
    "MaPLe": {"n_ctx": 2, "layers": 9},
    "IVLP": {"n_ctx": 2},
    "PromptSRC": {"n_ctx": 4, "layers": 9, "teacher": True},
    "CoPrompt": {"n_ctx": 2, "teacher": True},
    "MMRL": {"n_ctx": 5, "first": 5, "keep": True, "teacher": True},
    "MMRL, bank": {"n_ctx": 5, "first": 5, "keep": True, "teacher": True, "bank": True},
}


class PlainTower:
    """A ViT with prompts in the obvious way: it also computes outputs that are replaced, and the whole last layer."""

    def __init__(self, clip: CLIP):
        self.visual, self.dtype = clip.visual, clip.visual.conv1.weight.dtype

    def __call__(self, images: Tensor, added: Additions | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(B, d); with kept tokens also their outputs (B, K, W)."""
        v, inside = self.visual, 0
        x = v._embeds(images.to(self.dtype))
        for i, block in enumerate(v.transformer.resblocks):
            if added is not None and (new := added.tokens.at(i)) is not None:
                x = torch.cat([x[:, :1], new[added.group].to(self.dtype), x[:, 1 + inside :]], 1)  # (B, 1 + K + P, W)
                inside = new.shape[1]
            x = block(x)
        x = v.ln_post(x)
        feature = x[:, 0] if v.proj is None else x[:, 0] @ v.proj
        return (feature, x[:, 1 : 1 + inside]) if added is not None and added.tokens.keep else feature


class Pass:
    """Features of B images with the prompts of their tasks, and the gradient of a weighted sum of the features.

    `args`: the program's flags, and what SHAPE names: keep also reads the outputs of the prompts, teacher also computes
    the features of the frozen tower, and with bank our side knows these and the tokens before the first prompts.
    """

    def __init__(self, side: str, clip: CLIP, images: int, args):
        torch.manual_seed(0)
        self.tower = PlainTower(clip) if side == "plain" else ImageTower(clip, checkpoint=args.checkpoint)
        layers, W, _ = ImageTower(clip).require_prompts()
        count = args.layers or layers - args.first
        tokens = torch.empty(args.tasks, count, args.n_ctx, W).normal_(std=0.02)
        self.tokens = tokens.to(args.device).requires_grad_()
        self.group = (torch.arange(images) % args.tasks).to(args.device)
        self.layers, self.keep = range(args.first, args.first + count), args.keep
        size = clip.visual.input_resolution
        self.images = torch.randn(images, 3, size, size).to(args.device)
        self.weight = torch.randn(images, clip.visual.output_dim).to(args.device)
        self.start, self.teacher, self.frozen = {}, args.teacher, None
        if side == "ours" and args.bank:  # as in training, features and tokens of the views were computed before
            self.frozen = self.teach()
            self.images, self.start = self.tower.before(self.images, args.first), {"start": args.first}

    @torch.no_grad()
    def teach(self) -> Tensor | None:
        """Features (B, d) of the frozen tower, if the method reads them."""
        return self.tower(self.images).float() if self.teacher else None

    def __call__(self) -> tuple[Tensor, Tensor]:
        frozen = self.teach() if self.frozen is None else self.frozen
        added = Additions(Tokens(self.tokens, self.layers, keep=self.keep), group=self.group)
        found = self.tower(self.images, added, **self.start)
        features = (found[0] if self.keep else found).float()
        weight = self.weight if frozen is None else self.weight + frozen
        total = (features * weight).sum() + (found[1].float().mean(1).square().sum() if self.keep else 0)
        (gradient,) = torch.autograd.grad(total, self.tokens)
        return features.detach(), gradient


def measure(clip: CLIP, images: dict[str, int], args) -> tuple[dict, list, list]:
    """What `compare` returns for the geometry in `args`."""
    sides = {side: Pass(side, clip, images[side], args) for side in SIDES}
    return compare(sides, Pass("ours", clip, images["plain"], args), images, "image", args)


def measure_methods(clip: CLIP, images: dict[str, int], args) -> tuple[dict[str, dict], list[tuple]]:
    """What is measured for each method, and the rows of a table: milliseconds and MiB per image of both sides."""
    deepest, found, rows = ImageTower(clip).require_prompts()[0], {}, []
    for name, own in METHODS.items():
        shape = SHAPE | own
        shape["first"] = min(shape["first"], deepest - 1)
        shape["layers"] = min(shape["layers"], deepest - shape["first"])
        found[name] = one = measure(clip, images, Namespace(**vars(args) | shape))[0]
        cells = [row(name, one["ms_per_image"])] if "ms_per_image" in one else []
        add_memory_per_image(one, cells, images)
        rows.append((name, *(value for cell in cells for value in cell[1:])))
    return found, rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__.splitlines()[0], n_ctx=4, suites=False)
    parser.set_defaults(backbone="ViT-B/16", **SHAPE)
    add_image_options(parser)
    parser.add_argument("--tasks", type=positive, default=10, help="T, tasks, each with its own prompts")
    parser.add_argument("--layers", type=int, help="layers with new prompts; 1: shallow, 0: all (deep)")
    parser.add_argument("--first", type=int, help="layer of the first prompts")
    parser.add_argument("--bank", action="store_true", help="our side begins with the tokens before layer --first")
    parser.add_argument("--methods", action="store_true", help="measure the published geometry of each method")
    args = parser.parse_args(argv)

    clip = backbone(args.backbone, args.dtype, args.device)
    layers, W, patch = ImageTower(clip).require_prompts()
    if not (0 <= args.first < layers and 0 <= args.layers <= layers - args.first):
        raise UserError(
            f"--first {args.first} --layers {args.layers}: {args.backbone} has layers 0 to {layers - 1}; "
            f"expected --first from 0 to {layers - 1} and --layers from 0 (all layers from --first) to {layers} - FIRST"
        )
    if args.methods and (args.first or args.layers or args.bank):
        raise UserError("--methods sets --first, --layers and --bank of each method: leave them out")
    if args.bank and not args.first:
        raise UserError("--bank needs --first: the tokens of the first layer are the image's own")
    tokens = 1 + args.n_ctx + (clip.visual.input_resolution // patch) ** 2
    images = images_of(args, KEPT * layers * tokens * W * clip.dtype.itemsize)
    if args.methods:
        found, rows = measure_methods(clip, images, args)
        result = settings("visual_prompts", args) | {"plain_images": images["plain"], "methods": found}
        times = [] if args.memory_only else ["ms per image, plain", "ours", "ratio"]
        memory = [] if args.no_memory else ["MiB per image, plain", "ours", "ratio"]
        title = f"image side of a training step, forward + backward: {args.images} images of {args.tasks} tasks"
        report(result, title, rows, [], args.json, ["", *times, *memory])
        return
    measured, rows, notes = measure(clip, images, args)
    add_memory_per_image(measured, rows, images)
    result = settings("visual_prompts", args) | {
        "plain_images": images["plain"],
        "layers": args.layers or layers - args.first,
        "tokens_per_image": tokens,
        **measured,
    }
    title = (
        f"prompts in the image tower, forward + backward: {args.images} images of {args.tasks} tasks, "
        f"{args.n_ctx} prompts in {result['layers']} of {layers} layers"
    )
    report(result, title, rows, notes, args.json)


if __name__ == "__main__":
    start(main)
