"""CoCoOp's text features: each image of a batch has its own context for all classes.

python -m benchmarks.cocoop --backbone RN50 --images 8 --classes 37

The published code encodes all classes with 77 tokens for one image after the other. Ours is one call with one group per
image; the classes of a group share its context. Both run the forward and backward pass of the text side with the
learner of `trainers/cocoop.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.data.tasks import Task, TaskSpace
from trainers.cocoop import ConditionalPrompts

from .common import PlainTower, backbone, options, positive, start, suite
from .measuring import add_memory_options, compare, report, row, settings


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
    plain, ours = PlainTower(clip), TextTower(clip)
    fitting = plain.prompts_that_fit(args.images * len(names))
    wanted = args.plain_images or max(1, fitting // len(names))
    images = {"plain": min(wanted, args.images), "ours": args.images}
    sides = {
        "plain": Pass(plain, names, images["plain"], args.n_ctx, each=True),
        "ours": Pass(ours, names, images["ours"], args.n_ctx, each=False),
    }
    same = Pass(ours, names, images["plain"], args.n_ctx, each=False)
    length = int(sides["ours"].names.length.sum())
    tokens = {  # for all images
        "plain": args.images * len(names) * clip.context_length,
        "ours": args.images * (1 + args.n_ctx + length),
    }
    measured, rows, notes = compare(sides, same, images, "image", args)
    result = settings("cocoop", args) | {"plain_images": images["plain"], "classes": len(names), "tokens": tokens}
    title = f"CoCoOp's text side, forward + backward: {args.images} images x {len(names)} classes"
    report(result | measured, title, [row("tokens, all images", tokens), *rows], notes, args.json)


if __name__ == "__main__":
    start(main)
