"""Which tasks share: cosine similarity of task features and of the contexts or prompts generated from them.

    python -m analysis.tasks RUN

The matrices depend on the method of the run:

- SoftCPT: the task features f_t that the meta network reads, and the generated contexts (with class features,
  the mean over the classes of each task);
- MTUPT: the task features, and the text and visual prompts of all layers;
- methods with one context or prompt per task (TSC True): these contexts or prompts.

Each matrix is ordered by its own dendrogram (average linkage of 1 - cosine, scipy). In Proposition 1 of SoftCPT, tasks
share in proportion to the inner product of their features; the CSV contains the inner products too.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from scipy.cluster.hierarchy import dendrogram, linkage
from torch import Tensor

from analysis import plots
from analysis.runs import open_run, run_parser
from dassl import program
from dassl.config import method_name
from dassl.utils import UserError

COLUMNS = ("matrix", "task", "other", "cosine", "inner_product", "position")  # position of `task` in the figure


@torch.no_grad()
def task_vectors(trainer) -> dict[str, Tensor]:
    """{title: vectors (T, k)} of the learner, one flattened vector per task.

    Raises UserError for a run of one task, and for a run without vectors per task.
    """
    if trainer.space.num_tasks < 2:
        raise UserError(f"the run has one task ({trainer.space.tasks[0].key}): expected a run of at least two")
    found = trainer.model.task_vectors()
    if not found:
        raise UserError(
            f"this run of {method_name(trainer.cfg)} has no feature, context or prompt for each task: expected a run "
            "of SoftCPT, MTUPT or CoOp-CA, or of CoOp, VPT or UPT with TSC True"
        )
    return {title: value.float().cpu().flatten(1) for title, value in found.items()}


def similarities(vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and inner products (T, T) of vectors (T, k), in double precision."""
    x = vectors.double().numpy()
    inner = x @ x.T
    length = np.sqrt(np.diag(inner)).clip(1e-300)
    return (inner / length[:, None] / length).clip(-1, 1), inner


def tree(cosine: np.ndarray) -> np.ndarray:
    """scipy's average linkage of 1 - cosine; leaves are ordered so that neighbours are similar."""
    upper = np.triu_indices(len(cosine), 1)
    return linkage((1 - cosine)[upper].clip(0), "average", optimal_ordering=True)


def draw(figure, matrices: dict[str, np.ndarray], names: list[str]) -> dict[str, list[int]]:
    """Draw a heat map with a dendrogram for each matrix. Returns {title: order of the tasks}."""
    orders = {}
    grid = (1, len(matrices)) if len(names) <= 8 else (len(matrices), 1)
    for axes, (title, cosine) in zip(figure.subplots(*grid, squeeze=False).flat, matrices.items(), strict=True):
        above = axes.inset_axes((0, 1.02, 1, 0.3))  # as wide as the heat map, so that leaves are above columns
        drawn = dendrogram(tree(cosine), ax=above, no_labels=True, color_threshold=0, above_threshold_color="0.25")
        order = orders[title] = drawn["leaves"]
        above.set_title(title)
        above.set_ylabel("1 - cosine", fontsize=8)
        above.tick_params(labelsize=7)
        above.grid(False)
        above.spines["bottom"].set_visible(False)
        labels = [names[t] for t in order]
        off = cosine[~np.eye(len(names), dtype=bool)]  # the diagonal is always 1
        limits = {"vmin": off.min(), "vmax": off.max() if off.max() > off.min() else 1}
        shown = np.where(np.eye(len(names), dtype=bool), np.nan, cosine[np.ix_(order, order)])
        plots.heat_map(axes, shown, labels, labels, ".2f", "cosine similarity\n(grey: a task with itself)", **limits)
    return orders


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = run_parser("tasks", __doc__, "folder of a finished run of several tasks")
    options = parser.parse_args(arguments)

    out = plots.output(options.out, options.run, "tasks")
    trainer = open_run(options.run, options.load_epoch)
    found = {title: similarities(vectors) for title, vectors in task_vectors(trainer).items()}
    tasks = trainer.space.tasks
    matrices = {title: cosine for title, (cosine, _) in found.items()}
    rows: list[dict] = []
    width, height = 3.5 + 0.37 * len(tasks), 2.2 + 0.49 * len(tasks)
    across = len(matrices) if len(tasks) <= 8 else 1
    size = (width * across, height * len(matrices) / across)
    with plots.figure(out, COLUMNS, rows, *size) as figure:
        orders = draw(figure, matrices, [task.name for task in tasks])
        figure.suptitle(f"{method_name(trainer.cfg)} on {trainer.cfg.DATASET.NAME}", fontsize=10)
        for title, (cosine, inner) in found.items():
            for (i, j), value in np.ndenumerate(cosine):
                about = (title, tasks[i].key, tasks[j].key, value, inner[i, j], orders[title].index(i))
                rows.append(dict(zip(COLUMNS, about, strict=True)))
    for title, cosine in matrices.items():
        off = np.where(np.eye(len(tasks), dtype=bool), np.nan, cosine)
        near, far = (np.unravel_index(pick(off), off.shape) for pick in (np.nanargmax, np.nanargmin))
        print(
            f"{title}: mean cosine {np.nanmean(off):.3f}; nearest {tasks[near[0]].key} and {tasks[near[1]].key} "
            f"{off[near]:.3f}, furthest {tasks[far[0]].key} and {tasks[far[1]].key} {off[far]:.3f}"
        )


if __name__ == "__main__":
    sys.exit(main())
