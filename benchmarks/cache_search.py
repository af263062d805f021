"""Tip-Adapter on synthetic features: seconds and peak memory of keys and search, beside the plain loop over all pairs.

python -m benchmarks.cache_search                                  1,000 classes, 16 images each, 10 views, d = 512
python -m benchmarks.cache_search --classes 100 --images 2000

The search scores all pairs of 200 values of beta and 20 of alpha on `--images` validation images. The plain loop
computes affinities, votes and predictions of all images anew for each pair, as the published code does. It is measured
on `--plain-pairs` pairs and scaled to all; the predictions of both on these pairs are compared.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.data.tasks import TaskSpace
from reporting.text import render
from trainers.cache import cache_predictions, grid
from trainers.samples import Samples, StartSamples
from trainers.tip_adapter import FixedCache

from .common import measured_device, positive, start
from .measuring import MIB, peak_over_base, settings

SCALE = 100.0


class Texts:
    """Stands for a text tower: `features` (C, d) of the classes, whatever their prompts are."""

    def __init__(self, features: Tensor):
        self.features, self.output_dim, self.device = features, features.shape[1], features.device
        self.clip = SimpleNamespace(logit_scale=torch.tensor(SCALE, device=features.device).log())

    def encode(self, texts: list[str]) -> Tensor:
        return self.features


def synthetic(means: Tensor, count: int, seed: int) -> Samples:
    """`count` images (n, d) around the means (C, d) of their classes, on the CPU."""
    labels = torch.arange(count) % len(means)
    noise = torch.randn(count, means.shape[1], generator=torch.Generator().manual_seed(seed))
    return Samples(means[labels] + 3 * noise, labels)


def plain(features: Tensor, keys: Tensor, values: Tensor, text: Tensor, pairs: list[tuple[float, float]]) -> Tensor:
    """Predicted classes (G, n) with G pairs of beta and alpha: one affinity, product and argmax per pair."""
    x = F.normalize(features, dim=-1)
    zero_shot, similarity, one_hot = x @ text.t(), x @ keys.t(), F.one_hot(values, len(text)).float()
    return torch.stack(
        [(zero_shot + alpha * ((-1) * (beta - beta * similarity)).exp() @ one_hot).argmax(1) for beta, alpha in pairs]
    )


def clocked(run, device: torch.device) -> tuple[float, float]:
    """(seconds, peak memory in MiB over the memory in use before) of one call of `run`."""
    seconds = []

    def timed() -> None:
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)

    peak = peak_over_base(timed, device, warm_up=False)
    return seconds[0], peak / MIB


@torch.no_grad()
def measure(args: argparse.Namespace) -> dict:
    """The result: seconds and MiB of keys with search, and of the plain loop."""
    device, draw = torch.device(args.device), torch.Generator().manual_seed(0)
    means = torch.randn(args.classes, args.width, generator=draw)
    text = F.normalize(means + 2 * torch.randn(means.shape, generator=draw), dim=-1).to(device)
    space = TaskSpace.single([f"class {k}" for k in range(args.classes)], "synthetic")
    grids = grid(args.ends[0], 200), grid(args.ends[1], 20)
    model = FixedCache(Texts(text), space, grids=[grids], views=args.views).to(device)

    class Views(Sequence):
        """Views that are made when they are read, as those of a feature bank."""

        def __len__(self) -> int:
            return args.views

        def __getitem__(self, view: int) -> list[Samples]:
            return [synthetic(means, args.shots * args.classes, seed=view)]

    val = synthetic(means, args.images, seed=-1)
    samples = StartSamples(lambda split: [val], lambda count: Views())
    with redirect_stdout(None):
        seconds, memory = clocked(lambda: model.start(samples), device)

    keys, values, scaled = model.rows.keys.detach(), model.rows.column, SCALE * text
    betas, alphas, middle = grids[0][:: 200 // args.plain_pairs][: args.plain_pairs], grids[1], 10
    found: list[Tensor] = []
    pairs = [(beta, alphas[middle]) for beta in betas]
    features = val.features.to(device)
    plain_seconds, plain_memory = clocked(lambda: found.append(plain(features, keys, values, scaled, pairs)), device)
    ours = cache_predictions(val.features, keys, values, scaled, betas, alphas)[:, middle]
    return settings("cache_search", args) | {
        "keys": len(keys),
        "pairs": len(grids[0]) * len(grids[1]),
        "seconds": {"plain": plain_seconds / len(pairs) * len(grids[0]) * len(grids[1]), "ours": seconds},
        "plain_seconds_per_pair": plain_seconds / len(pairs),
        "memory_mib": {"plain": plain_memory, "ours": memory},
        "different_predictions": int((ours.long() != found[0].cpu()).sum()),
        "predictions": ours.numel(),
    }


def show(result: dict) -> None:
    """Print the result as a table."""
    about = "{keys:,} keys of {classes:,} classes, d = {width}, {views} views; {pairs:,} pairs on {images:,} images"
    print(f"Tip-Adapter: {about.format(**result)}\n{result['device']}, {result['threads']} threads")
    rows = [
        [what, *(f"{result[key][side]:,.1f}" for side in ("plain", "ours"))]
        for what, key in (("seconds, all pairs", "seconds"), ("peak MiB over the base", "memory_mib"))
    ]
    print(render(["", "plain", "ours, with the keys"], rows))
    print(
        f"plain: {result['plain_seconds_per_pair']:.1f} s per pair, measured on {result['plain_pairs']} and scaled\n"
        f"{result['different_predictions']} of {result['predictions']:,} predictions differ on these pairs"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    for flag, default, text in (
        ("classes", 1000, "number of classes"),
        ("shots", 16, "training images per class"),
        ("views", 10, "views per training image"),
        ("images", 10_000, "validation images"),
        ("width", 512, "d, width of the features"),
        ("plain-pairs", 2, "pairs on which the plain loop is measured, at most 200"),
    ):
        parser.add_argument(f"--{flag}", type=positive, default=default, help=text)
    parser.add_argument("--ends", type=float, nargs=2, default=(7.0, 3.0), help="B and A, upper ends of the grids")
    parser.add_argument("--device", type=measured_device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if args.plain_pairs > 200:
        parser.error(f"--plain-pairs {args.plain_pairs}: expected at most 200")
    result = measure(args)
    if args.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    start(main)
