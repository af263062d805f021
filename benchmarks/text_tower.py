"""Forward and backward pass of the text tower: 77 tokens per class (published code) against each token once.

python -m benchmarks.text_tower --suite plant6 --backbone RN50
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from trainers.prompts import SHARING, PromptLearner

from .common import NAME_TOKENS, PlainTower, backbone, options, positive, reduced, start, suite
from .measuring import SIDES, add_memory_options, compare, flops, products_alone, report, row, settings


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

    passes = {side: Pass(towers[side], spaces[side], args.n_ctx, args.sharing) for side in SIDES}
    same = Pass(towers["ours"], spaces["plain"], args.n_ctx, args.sharing)
    classes = {side: spaces[side].num_classes for side in SIDES}
    prompts = passes["ours"].learner()
    tokens = {"plain": space.num_classes * clip.context_length, "ours": prompts.num_tokens}  # for all classes
    products = products_alone(towers["ours"], tokens["ours"])
    measured, rows, notes = compare(passes, same, classes, "class", args, {"products": products})
    name_tokens = passes["ours"].learner.names.name_length.float().mean().item()
    result = settings("text_tower", args) | {
        "tasks": space.num_tasks,
        "classes": classes["ours"],
        "plain_classes": classes["plain"],
        "tokens": tokens,
        "name_tokens": NAME_TOKENS,
        "mean_name_tokens": name_tokens,
        **measured,
    }
    notes.append(f"names of {name_tokens:.2f} tokens on average, plus a full stop and [EOS]")
    if not args.memory_only:
        seconds = result["seconds"]
        rate, reached = products.flops / seconds.pop("products"), flops(passes["ours"]) / seconds["ours"]
        result |= {"gflops_ours": reached / 1e9, "gflops_products": rate / 1e9, "share": reached / rate}
        rows += [
            ("GFLOP/s", "", reached / 1e9, ""),
            ("GFLOP/s of matrix products alone", "", rate / 1e9, ""),
            ("share of that rate", "", f"{100 * reached / rate:.0f} %", ""),
        ]
    if not args.no_memory:
        whole = result["memory_mib"]["plain"] * classes["ours"] / classes["plain"]
        result["plain_memory_mib_all_classes"] = whole
        if classes["plain"] < classes["ours"]:
            notes.append(f"plain for all classes, extrapolated: {whole:,.0f} MiB")
    title = f"text tower, forward + backward: {args.suite}, {classes['ours']} classes, context {args.n_ctx}"
    report(result, title, [row("tokens, all classes", tokens), *rows], notes, args.json)


if __name__ == "__main__":
    start(main)
