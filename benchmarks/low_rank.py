"""Low-rank changes in the image tower (CLIP-LoRA): forward and backward pass of a batch of images.

python -m benchmarks.low_rank --backbone ViT-B/16 --images 32
python -m benchmarks.low_rank --images 32 --dropout 0.25 --first 8        as published, in the last third of the layers

The plain side has separate projections of q, k and v, each with a low-rank module beside it, and computes all tokens in
all layers with autograd. Ours is `clip/image_tower.py`. Both compute the gradients of all factors. With dropout the two
sides draw other masks, so their results are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.additions import Additions, LowRank
from clip.image_tower import ImageTower
from clip.model import CLIP
from dassl.utils import UserError

from .common import backbone, options, positive, start
from .measuring import SIDES, add_image_options, add_memory_per_image, compare, images_of, report, settings

KEPT = 25  # numbers that the plain side keeps per number of a token and layer, roughly
NAMES = ("q", "k", "v")


class Attention(nn.Module):
    """Attention with separate projections of q, k and v, and a low-rank change of each."""

    def __init__(self, attn: nn.MultiheadAttention, changes: list[LowRank]):
        super().__init__()
        self.heads, self.out, self.changes = attn.num_heads, attn.out_proj, changes
        self.weights, self.biases = attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3)

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            F.linear(x, weight, bias) + change(x)
            for weight, bias, change in zip(self.weights, self.biases, self.changes, strict=True)
        ]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, h, S, W / h)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class PlainTower:
    """A ViT whose layers have low-rank modules beside q, k and v."""

    def __init__(self, clip: CLIP):
        self.visual = clip.visual

    def __call__(self, images: Tensor, added: Additions) -> Tensor:
        """(B, d)."""
        v = self.visual
        x = v._embeds(images.to(v.conv1.weight.dtype))
        for i, block in enumerate(v.transformer.resblocks):
            if (i, "q") not in added.changes:
                x = block(x)
                continue
            attention = Attention(block.attn, [added.changes[i, name] for name in NAMES])
            x = x + block.ls_1(attention(block.ln_1(x)))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        x = v.ln_post(x)[:, 0]
        return x if v.proj is None else x @ v.proj


class Pass:
    """Features of B images with low-rank changes, and the gradients of a weighted sum of the features."""

    def __init__(self, side: str, clip: CLIP, images: int, args):
        torch.manual_seed(0)
        self.tower = PlainTower(clip) if side == "plain" else ImageTower(clip, checkpoint=args.checkpoint)
        layers, W, _ = ImageTower(clip).require_prompts()
        self.factors = torch.empty(layers - args.first, len(NAMES), 2, args.rank, W).normal_(std=0.02)
        self.factors = self.factors.to(args.device).requires_grad_()
        self.first, self.dropout = args.first, args.dropout
        size = clip.visual.input_resolution
        self.images = torch.randn(images, 3, size, size).to(args.device)
        self.weight = torch.randn(images, clip.visual.output_dim).to(args.device)

    def __call__(self) -> tuple[Tensor, Tensor]:
        changes = {
            (self.first + i, name): LowRank(down, up.t(), self.factors.shape[-2] ** -0.5, self.dropout)
            for i, own in enumerate(self.factors)
            for name, (down, up) in zip(NAMES, own, strict=True)
        }
        features = self.tower(self.images, Additions(changes=changes)).float()
        (gradient,) = torch.autograd.grad((features * self.weight).sum(), self.factors)
        return features.detach(), gradient


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__.splitlines()[0], n_ctx=0, suites=False)
    parser.set_defaults(backbone="ViT-B/16")
    add_image_options(parser)
    parser.add_argument("--rank", type=positive, default=2, help="r, rank of the changes")
    parser.add_argument("--dropout", type=float, default=0.0, help="dropout rate of the low-rank paths")
    parser.add_argument("--first", type=int, default=0, help="first layer that is changed")
    args = parser.parse_args(argv)

    clip = backbone(args.backbone, args.dtype, args.device)
    layers, W, patch = ImageTower(clip).require_prompts()
    if not 0 <= args.first < layers:
        raise UserError(f"--first {args.first}: {args.backbone} has layers 0 to {layers - 1}")
    if not 0 <= args.dropout < 1:
        raise UserError(f"--dropout {args.dropout}: expected a number from 0 to less than 1")
    tokens = 1 + (clip.visual.input_resolution // patch) ** 2
    images = images_of(args, KEPT * layers * tokens * W * clip.dtype.itemsize)
    sides = {side: Pass(side, clip, images[side], args) for side in SIDES}
    measured, rows, notes = compare(sides, Pass("ours", clip, images["plain"], args), images, "image", args)
    add_memory_per_image(measured, rows, images)
    if args.dropout:
        measured.pop("difference", None)
        rows = [cells for cells in rows if not cells[0].startswith("relative difference")]
    result = settings("low_rank", args) | {"plain_images": images["plain"], "tokens_per_image": tokens, **measured}
    title = (
        f"low-rank changes in the image tower, forward + backward: {args.images} images, rank {args.rank} in "
        f"{layers - args.first} of {layers} layers, dropout {args.dropout:g}"
    )
    report(result, title, rows, notes, args.json)


if __name__ == "__main__":
    start(main)
