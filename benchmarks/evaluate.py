"""An evaluation of n batches with given image features: text features per batch (published code) against once.

python -m benchmarks.evaluate --suite plant6 --backbone RN50 --batches 20
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from trainers.losses import cosine_logits
from trainers.mtcoop import SoftCPT

from .common import PlainTower, backbone, options, positive, relative, start, suite
from .measuring import SIDES, alternate, difference_rows, report, row, settings


class Evaluation:
    """Logits of all batches from a SoftCPT (NATA) learner. `passes` counts how often the class prompts were encoded."""

    def __init__(self, side: str, clip: CLIP, space: TaskSpace, features: Tensor, n_ctx: int):
        torch.manual_seed(0)
        self.once = side == "ours"
        self.learner = SoftCPT(TextTower(clip) if self.once else PlainTower(clip), space, n_ctx=n_ctx)
        self.learner.to(features.device)
        self.features = features  # (n, B, d)
        self.columns = torch.arange(space.num_classes, device=features.device)
        self.scale = clip.logit_scale.exp()
        self.passes = 0

    def text(self) -> Tensor:
        """Features of all classes (N, d)."""
        self.passes += 1
        return self.learner(self.columns)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """Logits (n, B, N)."""
        self.passes = 0
        text = self.text() if self.once else None
        return torch.stack([cosine_logits(x, self.text() if text is None else text, self.scale) for x in self.features])


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__.splitlines()[0], repeat=1)
    parser.add_argument("--batch", type=positive, default=100, help="B, images of a batch")
    parser.add_argument("--batches", type=positive, default=20, help="n, batches of the evaluation")
    args = parser.parse_args(argv)

    clip, space = backbone(args.backbone, args.dtype, args.device), suite(args.suite, args.scale)
    torch.manual_seed(0)
    features = torch.randn(args.batches, args.batch, clip.visual.output_dim).to(args.device)
    sides = {side: Evaluation(side, clip, space, features, args.n_ctx) for side in SIDES}
    difference = {"logits": relative(sides["ours"](), sides["plain"]())}
    # this was the warm-up of both sides
    seconds = alternate(sides, args.repeat, torch.device(args.device), warm_up=False)
    passes = {side: sides[side].passes for side in SIDES}
    result = {
        **settings("evaluate", args),
        "tasks": space.num_tasks,
        "classes": space.num_classes,
        "text_passes": passes,
        "seconds": seconds,
        "speedup": seconds["plain"] / seconds["ours"],
        "difference": difference,
    }
    rows = [
        row("text passes", passes),
        row("ms per evaluation", seconds, 1e3),
        row("ms per batch", seconds, 1e3 / args.batches),
        *difference_rows(difference),
    ]
    title = f"evaluation of {args.batches} batches of {args.batch}: {args.suite}, {space.num_classes} classes"
    report(result, title, rows, ["image features given on both sides"], args.json)


if __name__ == "__main__":
    start(main)
