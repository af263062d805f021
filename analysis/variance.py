"""Variance of images and of class names against the improvement by prompts: Zang et al., "Unified Vision and Language
Prompt Learning", appendix A (eqs. 6-8) and Fig. 1 (d), (e).

    python -m analysis.variance ZEROSHOT [ZEROSHOT ...] [LABEL=FOLDER ...]
    python -m analysis.variance output/ZeroshotCLIP/tiny_ep20/icon5 CoOp=output/icon5/CoOp/... VPT=output/icon5/VPT/...

ZEROSHOT is the folder of a run of ZeroshotCLIP. It determines the tasks, the backbone and the prompts. All
features come from the frozen CLIP and are normalised to length 1, so that tasks can be compared. x is an image feature
of class c, m_c the mean image feature of class c, w_c the text feature of class c, and m the mean of all w_c of a task:

    intra-class visual variance   mean over classes c of the mean over the images of c of |x - m_c|^2
    inter-class text variance     mean over classes c of |w_c - m|^2

Both are between 0 and 1: for one class, the visual variance is 1 - |m_c|^2; for one task, the text variance is
1 - |m|^2. LABEL=FOLDER are finished experiments (seeds, or seeds of each task). Improvement is the mean over seeds
minus zero-shot, in percentage points of each task's metric.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analysis import plots
from analysis.runs import features_of, open_run, print_notes
from dassl import program
from dassl.config import method_name
from dassl.data.datasets.base_dataset import one_per_label
from dassl.runs.results import Run, TaskResult, read_run
from dassl.utils import UserError
from dassl.utils.arguments import Parser
from reporting.experiments import Experiment, load_experiment

X = (("visual_variance", "intra-class visual variance"), ("text_variance", "inter-class text variance"))
FEWEST = 4  # tasks for a correlation: with three, even unrelated numbers often look correlated
NO_R = f"r is not computed (fewer than {FEWEST} tasks, or equal values)"
SAME = ("backbone", "protocol", "split")  # settings in which an experiment and zero-shot must agree
COLUMNS = ("task", "name", "classes", "images", *(key for key, _ in X), "metric", "zero_shot_percent")


def visual_variance(features: Tensor, labels: Tensor) -> float:
    """Intra-class variance of normalised image features (B, d) with labels (B,); classes without images are ignored."""
    x = features.double()
    present, group, count = labels.unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(present), x.shape[1], dtype=x.dtype).index_add_(0, group, x) / count[:, None]  # (C, d)
    squared = (x - means[group]).square().sum(1)  # (B,)
    return (torch.zeros(len(present), dtype=x.dtype).index_add_(0, group, squared) / count).mean().item()


def text_variance(features: Tensor) -> float:
    """Inter-class variance of normalised text features (C, d)."""
    w = features.double()
    return (w - w.mean(0)).square().sum(1).mean().item()


def check(cfg, trainer: type, space) -> None:
    """Raise UserError for a run of a method that learns."""
    if trainer.learns:
        raise UserError(
            f"variances are measured with the frozen CLIP: expected runs of ZeroshotCLIP, found {method_name(cfg)} "
            "(give it as LABEL=FOLDER)"
        )


def measure(folder: str, root: str = "", split: str = "test") -> list[dict]:
    """Rows of COLUMNS, one per task of the zero-shot run in `folder`; without results, the last column is None.

    Tasks without images in the split are skipped. Raises UserError if no task has images.
    """
    trainer = open_run(folder, data=True, root=root, check=check)
    items = one_per_label(getattr(trainer.dm.dataset, split) or ())
    if not items:
        raise UserError(f"--split {split}: {trainer.cfg.DATASET.NAME} has no such images")
    _, image, _ = features_of(trainer, items, f"{split} images")
    text = torch.nn.functional.normalize(trainer.text_features().float().cpu(), dim=-1)
    task = torch.tensor([item.task for item in items])
    label = torch.tensor([item.label for item in items])
    values = {result.id: result for result in read_run(Path(folder)).tasks}
    rows = []
    for t, own in enumerate(trainer.space.tasks):
        mine, result = task == t, values.get(own.id)
        if not mine.any():
            continue
        numbers = (visual_variance(image[mine], label[mine]), text_variance(text[trainer.space.columns(t)]))
        known = (own.metric, result.numbers["overall_metric"] if result else None)
        row = (own.key, own.name, len(own.classnames), int(mine.sum()), *numbers, *known)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def improvements(rows: list[dict], label: str, experiment: Experiment, zero_shot: list[Run]) -> list[str]:
    """Add LABEL_percent, LABEL_improvement_points and LABEL_std_points (over seeds) to the rows of matching tasks.

    Returns the names of the added columns. Raises UserError if the experiment is not finished, has other tasks, or
    differs from zero-shot in a setting of SAME.
    """
    finished = experiment.finished
    if not finished:
        raise UserError(f"{label}={experiment.folder}: it contains no finished run")
    for setting in SAME:
        here, there = (_setting(runs, setting) for runs in (finished, zero_shot))
        if here and there and here != there:
            found, expected = (" and ".join(sorted(values)) for values in (here, there))
            raise UserError(
                f"{label}={experiment.folder}: {setting} {found}, and the zero-shot run has {expected}: an improvement "
                "is measured against zero-shot with the same settings"
            )
    names = [f"{label}_{part}" for part in ("percent", "improvement_points", "std_points")]
    matched = 0
    for row in rows:
        each = [task for run in finished for task in run.tasks if _same(row, task)]
        values = [task.numbers["overall_metric"] for task in each if task.numbers["overall_metric"] is not None]
        if values and row["zero_shot_percent"] is not None:
            mean = float(np.mean(values))
            spread = float(np.std(values)) if len(values) > 1 else None
            row.update(zip(names, (mean, mean - row["zero_shot_percent"], spread), strict=True))
            matched += 1
    if not matched:
        there = ", ".join(task.key or task.name for task in experiment.tasks())
        here = ", ".join(row["task"] for row in rows)
        raise UserError(f"{label}={experiment.folder} has results of {there}; the zero-shot run of {here}")
    return names


def _setting(runs: list[Run], name: str) -> set[str]:
    """Values of a setting; "few-shot" counts as "all", because both protocols test the same classes."""
    found = {str(run.settings[name]) for run in runs if run.settings.get(name)}
    return {"all" if value == "few-shot" else value for value in found}


def _same(row: dict, task: TaskResult) -> bool:
    return row["task"] == task.key if task.key else row["name"] == task.name  # results parsed from logs have no keys


def correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson correlation; None for fewer than FEWEST points, or if `x` or `y` is constant."""
    return float(np.corrcoef(x, y)[0, 1]) if len(x) >= FEWEST and x.std() > 0 and y.std() > 0 else None


def draw(figure, rows: list[dict], labels: list[str]) -> list[str]:
    """Draw Fig. 1 (d), (e): improvement against each variance; without experiments, one variance against the other.

    Returns lines with the correlations.
    """
    lines = []
    panels = [figure.add_subplot(1, 2, n) for n in (1, 2)] if labels else [figure.add_subplot()]
    for axes, (key, title) in zip(panels, X, strict=False):
        where = np.array([row[key] for row in rows])
        room = 0.06 * (where.max() - where.min()) or 0.1 * where.max() or 0.1
        axes.set_xlim(where.min() - room, where.max() + room)
        axes.set_xlabel(f"{title} (features of length 1)")
        if not labels:
            axes.scatter(where, [row[X[1][0]] for row in rows], s=28, **plots.series(0))
            axes.set_ylabel(f"{X[1][1]} (features of length 1)")
        for number, label in enumerate(labels):
            own = [row for row in rows if row.get(f"{label}_improvement_points") is not None]
            x = np.array([row[key] for row in own])
            y = np.array([row[f"{label}_improvement_points"] for row in own])
            r = correlation(x, y)
            text = label if r is None else f"{label}  (r = {r:+.2f})"
            style = {**plots.series(number), "ls": "", "ms": 5}
            axes.errorbar(x, y, [row[f"{label}_std_points"] or 0 for row in own], label=text, elinewidth=0.8, **style)
            lines.append(f"{label}, improvement and {title}: " + (NO_R if r is None else f"r = {r:+.3f}"))
        if labels:
            axes.axhline(0, color="0.3", lw=0.8)
            axes.set_ylabel("improvement over zero-shot CLIP (percentage points)")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
        plots.names_above(axes, where, [row["name"] for row in rows])
    return lines


def parse_folders(given: list[str]) -> tuple[list[str], dict[str, str]]:
    """(zero-shot folders, {label: folder}). Raises UserError without a zero-shot folder, or for an empty or repeated
    label.
    """
    zero_shot, labelled = [], {}
    for text in given:
        label, equals, folder = text.partition("=")
        if not equals or os.path.exists(text):
            zero_shot.append(text)
        elif not label or label in labelled:
            raise UserError(f'expected a unique label in LABEL=FOLDER, found "{text}"')
        else:
            labelled[label] = folder
    if not zero_shot:
        raise UserError("expected the folder of a run of ZeroshotCLIP before LABEL=FOLDER: it determines the tasks")
    return zero_shot, labelled


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.variance", description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", metavar="ZEROSHOT|LABEL=FOLDER", help="zero-shot runs; experiments")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="images for the visual variance")
    parser.add_argument("--root", metavar="DIR", default="", help="folder of the datasets; default: the run's")
    parser.add_argument("--out", metavar="NAME", help="figure to write; default: ZEROSHOT/figures/variance")
    options = parser.parse_args(arguments)

    zero_shot, labelled = parse_folders(options.folders)
    out = plots.output(options.out, zero_shot[0], "variance")
    experiments = {label: load_experiment(Path(folder), label) for label, folder in labelled.items()}
    runs = [read_run(Path(folder)) for folder in zero_shot]
    if labelled and (unfinished := [run for run in runs if not run.finished]):
        raise UserError(f"{unfinished[0].folder} has no zero-shot result: {unfinished[0].problem}")
    rows = [row for folder in zero_shot for row in measure(folder, options.root, options.split)]
    keys = [row["task"] for row in rows]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"task {twice[0]} is in more than one of the zero-shot runs: give each task once")
    columns = list(COLUMNS)
    for label, experiment in experiments.items():
        columns += improvements(rows, label, experiment, runs)
    size = (11, 6) if labelled else (6.5, 5.6)
    with plots.figure(out, columns, rows, *size) as figure:
        lines = draw(figure, rows, list(labelled))
    for row in rows:
        print(f"{row['name']}: visual {row['visual_variance']:.4f}, text {row['text_variance']:.4f}")
    print("\n".join(lines), end="\n" if lines else "")
    print_notes(list(experiments.values()))


if __name__ == "__main__":
    sys.exit(main())
