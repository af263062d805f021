"""CoCoOp's text features: each image of a batch has its own context for all classes.

python -m benchmarks.cocoop --backbone RN50 --images 8 --classes 37

The published code encodes all classes with 77 tokens for one image after the other. Ours is one call with one group per
image; the classes of a group share its context. Both run the forward and backward pass of the text side with the
learner of `trainers/cocoop.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.data.tasks import Task, TaskSpace
from trainers.cocoop import ConditionalPrompts

from .common import PlainTower, backbone, options, positive, start, suite
from .measuring import SIDES, add_memory_options, by_image, machine, memory, peak_over_base, report, row


class Pass:
    """Text features of C classes for each of B images, in one call, or with `each` in one call per image."""

    def __init__(self, tower: TextTower, classnames: Sequence[str], images: int, n_ctx: int, each: bool):
        torch.manual_seed(0)
        space = TaskSpace((Task("task", "task", tuple(classnames)),))
        self.learner = ConditionalPrompts(tower, space, n_ctx=n_ctx, init="").to(tower.device)
        self.names = self.learner.prompt_learner.names
        self.features = torch.randn(images, tower.output_dim).to(tower.device)
        self.weight = torch.randn(images * len(classnames), tower.output_dim).to(tower.device)
        pairs = torch.ones(images, len(classnames), dtype=torch.bool, device=tower.device).nonzero()  # (B * C, 2)
        self.calls = pairs.split(len(classnames)) if each else (pairs,)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Features (B * C, d), and the gradient of a weighted sum of the features for all parameters, as one vector."""
        features = torch.cat([self.learner.pairs(self.features, *pairs.unbind(1)).float() for pairs in self.calls])
        grads = torch.autograd.grad((features * self.weight).sum(), list(self.learner.parameters()))
        return features.detach(), torch.cat([grad.flatten() for grad in grads])


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = options(__doc__.splitlines()[0], n_ctx=4, suites=False)
    parser.add_argument("--images", type=positive, default=8, help="B, images per batch")
    parser.add_argument("--classes", type=positive, default=37, help="C, classes per image")
    parser.add_argument(
        "--plain-images", type=positive, help="images of the plain side (default: as many as fit into memory)"
    )
    add_memory_options(parser)
    args = parser.parse_args(argv)

    clip = backbone(args.backbone, args.dtype, args.device)
    names = suite("general10").classnames[: args.classes]
    plain = PlainTower(clip)
    fitting = plain.prompts_that_fit(args.images * len(names))
    wanted = args.plain_images or min(max(1, fitting // len(names)), args.images)
    images = {"plain": min(wanted, args.images), "ours": args.images}

    def build(side: str, count: int) -> Pass:
        tower = plain if side == "plain" else TextTower(clip)
        return Pass(tower, names, count, args.n_ctx, each=side == "plain")

    if args.measure:
        print(peak_over_base(build(args.measure, images[args.measure]), torch.device(args.device)))
        return

    sides = {side: build(side, images[side]) for side in SIDES}
    one = sides["ours"].names
    tokens = {
        "plain": args.images * len(names) * clip.context_length,
        "ours": args.images * (1 + args.n_ctx + int(one.length.sum())),
    }  # for all images
    result = {
        "program": "cocoop",
        **machine(args),
        "n_ctx": args.n_ctx,
        "images": args.images,
        "plain_images": images["plain"],
        "classes": len(names),
        "tokens": tokens,
    }
    rows = [row("tokens, all images", tokens)]
    if not args.memory_only:
        same = build("ours", images["plain"])
        measured, lines = by_image(sides, same, images, args.repeat, torch.device(args.device))
        result |= measured
        rows += lines
    if not args.no_memory:
        mib = memory("benchmarks.cocoop", [*argv, "--plain-images", str(images["plain"])])
        result["memory_mib"] = mib
        rows.append(row("peak MiB over the base", mib))
    notes = []
    if images["plain"] < images["ours"]:
        notes.append(f"plain ran on {images['plain']} of the {images['ours']} images: compare times per image")
    title = f"CoCoOp's text side, forward + backward: {args.images} images x {len(names)} classes"
    report(result, title, rows, notes, args.json)


if __name__ == "__main__":
    start(main)
