"""Forward and backward pass of the text tower: 77 tokens per class (published code) against each token once.

python -m benchmarks.text_tower --suite plant6 --backbone RN50
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from trainers.prompts import SHARING, PromptLearner

from .common import NAME_TOKENS, PlainTower, backbone, options, positive, reduced, relative, start, suite
from .measuring import (
    SIDES,
    add_memory_options,
    alternate,
    flops,
    machine,
    memory,
    peak_over_base,
    products_alone,
    report,
    row,
)


class Pass:
    """One pass of `tower` over learnable prompts for all classes of `space`; prompts do not depend on the tower."""

    def __init__(self, tower: TextTower, space: TaskSpace, n_ctx: int, sharing: str):
        torch.manual_seed(0)
        self.tower = tower
        tasks = space.task_of_column
        self.learner = PromptLearner(tower, space.classnames, n_ctx, sharing=sharing, task_of_name=tasks)
        self.learner.to(tower.device)
        self.weight = torch.randn(space.num_classes, tower.output_dim, device=tower.device)  # (N, d)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Features (N, d), and the gradient of a weighted sum of the features for all contexts, as one vector."""
        features = self.tower(self.learner()).float()
        grads = torch.autograd.grad((features * self.weight).sum(), list(self.learner.parameters()))
        return features.detach(), torch.cat([grad.flatten() for grad in grads])


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--sharing", choices=SHARING, default="all", help="which prompts share a context")
    parser.add_argument(
        "--plain-classes", type=positive, help="classes of the plain tower (default: as many as fit into memory)"
    )
    add_memory_options(parser)
    args = parser.parse_args(argv)

    clip = backbone(args.backbone, args.dtype, args.device)
    space, towers = suite(args.suite, args.scale), {"plain": PlainTower(clip), "ours": TextTower(clip)}
    wanted = args.plain_classes or towers["plain"].prompts_that_fit(space.num_classes)
    spaces = {"plain": reduced(space, wanted), "ours": space}

    def build(side: str, of: TaskSpace) -> Pass:
        return Pass(towers[side], of, args.n_ctx, args.sharing)

    if args.measure:
        print(peak_over_base(build(args.measure, spaces[args.measure]), torch.device(args.device)))
        return

    passes = {side: build(side, spaces[side]) for side in SIDES}
    classes = {side: spaces[side].num_classes for side in SIDES}
    prompts = passes["ours"].learner()
    tokens = {"plain": space.num_classes * clip.context_length, "ours": prompts.num_tokens}  # for all classes
    result = {
        "program": "text_tower",
        **machine(args),
        "suite": args.suite,
        "scale": args.scale,
        "n_ctx": args.n_ctx,
        "sharing": args.sharing,
        "tasks": space.num_tasks,
        "classes": classes["ours"],
        "plain_classes": classes["plain"],
        "tokens": tokens,
        "name_tokens": NAME_TOKENS,
        "mean_name_tokens": passes["ours"].learner.names.name_length.float().mean().item(),
    }
    rows = [row("tokens, all classes", tokens)]
    if not args.memory_only:
        result |= timings(passes, spaces, tokens["ours"], args)
        rows += [
            row("ms per pass", result["seconds"], 1e3),
            row("ms per class", result["ms_per_class"]),
            ("GFLOP/s", "", result["gflops_ours"], ""),
            ("GFLOP/s of matrix products alone", "", result["gflops_products"], ""),
            ("share of that rate", "", f"{100 * result['share']:.0f} %", ""),
            ("relative difference of features", "", f"{result['difference']['features']:.1e}", ""),
            ("relative difference of gradients", "", f"{result['difference']['gradients']:.1e}", ""),
        ]
    if not args.no_memory:
        # the number of plain classes is passed on because the free memory may change
        mib = memory("benchmarks.text_tower", [*argv, "--plain-classes", str(wanted)])
        result["memory_mib"] = mib
        result["plain_memory_mib_all_classes"] = mib["plain"] * classes["ours"] / classes["plain"]
        rows.append(row("peak MiB over the base", mib))
    notes = [f"names of {result['mean_name_tokens']:.2f} tokens on average, plus a full stop and [EOS]"]
    if classes["plain"] < classes["ours"]:
        notes.append(
            f"plain ran on {classes['plain']} of the {classes['ours']} classes: compare times per class, not passes"
        )
        if not args.no_memory:
            notes.append(f"plain for all classes, extrapolated: {result['plain_memory_mib_all_classes']:,.0f} MiB")
    title = f"text tower, forward + backward: {args.suite}, {classes['ours']} classes, context {args.n_ctx}"
    report(result, title, rows, notes, args.json)


def timings(passes: dict[str, Pass], spaces: dict[str, TaskSpace], tokens: int, args) -> dict:
    """Times, rates, and the difference of both sides on the classes of the plain side."""
    plain, ours = passes["plain"], passes["ours"]
    same = ours if spaces["plain"] is spaces["ours"] else Pass(ours.tower, spaces["plain"], args.n_ctx, args.sharing)
    (features, gradient), (expected, expected_gradient) = same(), plain()
    products = products_alone(ours.tower, tokens)
    seconds = alternate({**passes, "products": products}, args.repeat, ours.tower.device)
    rate, reached = products.flops / seconds["products"], flops(ours) / seconds["ours"]
    ms = {side: 1e3 * seconds[side] / spaces[side].num_classes for side in SIDES}
    return {
        "seconds": {side: seconds[side] for side in SIDES},
        "ms_per_class": ms,
        "speedup_per_class": ms["plain"] / ms["ours"],
        "difference": {
            "features": relative(features, expected),
            "gradients": relative(gradient, expected_gradient),
        },
        "gflops_ours": reached / 1e9,
        "gflops_products": rate / 1e9,
        "share": reached / rate,
    }


if __name__ == "__main__":
    start(main)
