"""Measure Proposition 1 of SoftCPT: how far a step on one task's loss moves the contexts of the others.

    python -m analysis.sharing output/icon5/MTCoOp/tiny_ep20_4shots/cnctx0_..._loss/seed1

With the linear meta network, the context of task t is S_t = f_t P. One step of gradient descent on P with learning
rate r and fixed task features f moves S_t by -r sum_u (f_t . f_u) g_u, where g_u is the gradient of task u's loss with
respect to S_u. For every pair of tasks, the CSV contains the predicted move for a step on task u's loss alone (its
share of the loss over one epoch of training views), and the actual move in a step of the run's own meta network. The
figure shows the actual moves as a heat map, and actual against predicted moves.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from analysis import plots
from analysis.runs import open_run, run_parser
from dassl import program
from dassl.config import method_name
from dassl.utils import UserError
from trainers.losses import cosine_logits
from trainers.meta_networks import LinearMetaNetwork
from trainers.mtcoop import SoftCPT
from trainers.step import spread

COLUMNS = (
    "task",  # t, whose context moves
    "by",  # u, whose loss the step is on
    "inner_product",  # f_t . f_u
    "cosine",
    "gradient_norm",  # |g_u|
    "predicted",  # length of the predicted move of S_t
    "actual",
    "relative_difference",  # |actual - predicted| / |predicted|
)


def check(trainer) -> None:
    """Raise UserError for a run to which the proposition does not apply."""
    learner = trainer.model
    if not isinstance(learner, SoftCPT):
        raise UserError(f"{method_name(trainer.cfg)} has no meta network: expected a run of SoftCPT")
    if trainer.tagging is not None:
        raise UserError("the proposition is computed for one class per image, and this run has tagging tasks")
    if learner.csc or not isinstance(learner.prompt_gen, LinearMetaNetwork):
        c = trainer.cfg.TRAINER.MTCOOP
        raise UserError(
            "the proposition is about the linear meta network on task features: expected a run with "
            f"TRAINER.MTCOOP.PG_TYPE lin and CSC False, found {c.PG_TYPE} and {c.CSC}"
        )


@torch.no_grad()
def training_views(trainer) -> tuple[Tensor, Tensor, Tensor]:
    """Features (R, d), tasks (R,) and columns of the right classes (R,) of the labels of one epoch."""
    trainer.dm.set_epoch(0)
    found = []
    for batch in trainer.dm.train_loader_x:
        images, features, label, task, rows = trainer.parse_batch(batch)
        features = spread(trainer.frozen_features(images) if features is None else features, rows)
        found.append((features, task, trainer.space.column(task, label)))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def measure(trainer, lr: float) -> list[dict]:
    """Rows of COLUMNS, one per pair of tasks, for a step with learning rate `lr`. The weights are restored afterwards.

    Raises UserError for a run to which the proposition does not apply.
    """
    check(trainer)
    learner, space = trainer.model, trainer.space
    features, tasks, column = training_views(trainer)
    T = space.num_tasks
    with torch.no_grad():
        f = learner.task_feature(torch.arange(T, device=trainer.device)).double()  # (T, k)
    weight = learner.prompt_gen.proj
    weight.data = weight.data.double()  # a step is small relative to the weights: fp32 would round it away
    try:
        before = learner.prompt_gen(f).detach()  # (T, L, D)
        S = before.clone().requires_grad_()
        predicted, actual, gradients = {}, {}, []
        for u in range(T):
            mine = tasks == u
            span = space.columns(u)
            own = torch.arange(span.start, span.stop, device=trainer.device)

            def loss(text: Tensor, mine=mine, own=own, start=span.start) -> Tensor:
                logits = cosine_logits(features[mine], text, trainer.scale)
                value = trainer.classification_loss(logits, own, tasks[mine], column[mine] - start)
                return value * mine.sum() / len(tasks)

            group = torch.zeros_like(own)
            text = learner.tower(learner.names.fill(S[u : u + 1], group, own))
            g = torch.autograd.grad(loss(text), S)[0][u] if mine.any() else torch.zeros_like(before[u])
            gradients.append(g)
            moved = _step(learner, f, lambda own=own, loss=loss: loss(learner(own)), lr) if mine.any() else before
            for t in range(T):
                predicted[t, u] = -lr * (f[t] @ f[u]) * g
                actual[t, u] = moved[t] - before[t]
    finally:
        weight.data = weight.data.float()
    unit = torch.nn.functional.normalize(f, dim=-1)
    rows = []
    for (t, u), expected in predicted.items():
        difference = (actual[t, u] - expected).norm() / expected.norm() if expected.norm() > 0 else expected.norm()
        numbers = (
            f[t] @ f[u],
            unit[t] @ unit[u],
            gradients[u].norm(),
            expected.norm(),
            actual[t, u].norm(),
            difference,
        )
        names = (space.tasks[t].key, space.tasks[u].key)
        rows.append(dict(zip(COLUMNS, (*names, *(number.item() for number in numbers)), strict=True)))
    return rows


def _step(learner: SoftCPT, f: Tensor, loss, lr: float) -> Tensor:
    """Contexts (T, L, D) after one step on the weights of the meta network; the step is then undone."""
    weight = learner.prompt_gen.proj
    kept = weight.detach().clone()
    gradient = torch.autograd.grad(loss(), weight)[0]
    with torch.no_grad():
        weight -= lr * gradient
        moved = learner.prompt_gen(f)
        weight.copy_(kept)
    return moved


def draw(figure, rows: list[dict], names: list[str]) -> None:
    """Draw the actual moves of every task for every task's loss, and actual against predicted moves."""
    from matplotlib.patches import Rectangle

    map_of, against = figure.subplots(1, 2)
    T = len(names)
    predicted, actual = (np.array([row[key] for row in rows]) for key in ("predicted", "actual"))
    plots.heat_map(map_of, actual.reshape(T, T), names, names, "#.2g", "length of the move of a context")
    for t in range(T):
        map_of.add_patch(Rectangle((t - 0.47, t - 0.47), 0.94, 0.94, fill=False, edgecolor="w", lw=1.5))
    map_of.set_xlabel("step on the loss of (framed: of the same task)")
    map_of.set_ylabel("moves the context of")
    own = np.eye(T, dtype=bool).ravel()
    for number, (which, label) in enumerate(((own, "step on own loss"), (~own, "step on another task's loss"))):
        against.plot(predicted[which], actual[which], ls="", ms=5, label=label, **plots.series(number))
    against.axline((0, 0), slope=1, color="0.3", lw=0.8, zorder=0, label="actual = predicted")
    against.set_xlabel("predicted move (norm of the change of a context)")
    against.set_ylabel("actual move")
    against.legend()


@program.entry
def main(arguments: list[str] | None = None) -> int:
    which = "folder of a finished run of SoftCPT with the linear meta network"
    parser = run_parser("sharing", __doc__, which, data=True)
    parser.add_argument(
        "--lr", metavar="RATE", type=float, help="learning rate of the step; default: the run's OPTIM.LR"
    )
    options = parser.parse_args(arguments)

    out = plots.output(options.out, options.run, "sharing")
    trainer = open_run(options.run, options.load_epoch, data=True, root=options.root)
    lr = trainer.cfg.OPTIM.LR if options.lr is None else options.lr
    rows = measure(trainer, lr)
    tasks = trainer.space.tasks
    side = 3.5 + 0.42 * len(tasks)
    with plots.figure(out, COLUMNS, rows, side + 4.6, max(side - 0.8, 4)) as figure:
        draw(figure, rows, [task.name for task in tasks])
        figure.suptitle(f"{method_name(trainer.cfg)}: one step of gradient descent, rate {lr:g}", fontsize=10)
    print(f"largest relative difference of actual and predicted: {max(r['relative_difference'] for r in rows):.2g}")


if __name__ == "__main__":
    sys.exit(main())
