"""Accuracy against a setting, mean and standard deviation over seeds, from the folder that a launcher has filled.

    python -m analysis.sweep output/analysis/icon5/tiny_ep20_4shots/length
    python -m analysis.sweep output/icon5 [--zero-shot output/ZeroshotCLIP/tiny_ep20/icon5]

Reads what is below FOLDER as parse_test_res.py --multi-exp does. The folders' names say what was swept: those of
analysis_length.sh, analysis_task_feature.sh, analysis_backbones.sh and analysis_stability.sh (SoftCPT's Fig. 5 and its
kin), or any .../CFG_SHOTSshots/... of the main launchers: accuracy against images a class, a line a method. With
several values of a setting they stand at even distances. --relative-std, always of analysis_stability.sh, adds the
standard deviation over seeds relative to the mean.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis import plots
from analysis.runs import print_notes, run_command
from dassl.utils import UserError
from reporting.experiments import Choice, Experiment, choose, find_experiments, load_experiment, stat
from reporting.relative import relative_stds

COLUMNS = (
    "series",
    "setting",
    "value",
    "experiment",
    "number",
    "n",
    "mean_percent",
    "std_points",
    "relative_std_percent",
)
Place = tuple[str, str]  # (series, value)


@dataclass(frozen=True)
class Layout:
    """How a launcher names its folders: `pattern` of a label, which gives `place` (series, value) of it."""

    setting: str  # what is on the x axis
    pattern: str
    place: Callable[[re.Match], Place]
    spread: bool = False  # whether the spread is what it is about


def _words(*parts: str | None) -> str:
    return "/".join(part.strip("/") for part in parts if part and part.strip("/"))


LAYOUTS = (
    Layout(
        "context tokens",
        r"(t?)nctx(\d+)",
        lambda m: ("of task prompts (TASK_N_CTX)" if m[1] else "of class prompts (N_CTX)", m[2]),
    ),
    Layout(
        "numbers in a task feature (d: the text encoder's)",
        r"(te|rand)(?:_dim(\d+))?",
        lambda m: ({"te": "TE: from the text encoder", "rand": "Rand: learned"}[m[1]], m[2] or "d"),
    ),
    Layout("images a class", r"(CoOp-CA|SoftCPT-NATA)/(\d+)shots", lambda m: (m[1], m[2]), True),
    Layout("backbone", r"([^/]+)/(CoOp-CA|SoftCPT-NATA)", lambda m: (m[2], m[1])),
    Layout("images a class", r"(.*/)?([^/]+?)_?(\d+)shots(/.*)?", lambda m: (_words(m[1], m[2], m[4]), m[3])),
)


def layout_of(experiments: list[Experiment], folder: Path) -> tuple[Layout, dict[str, Place]]:
    """The first layout that all experiments follow, and {label: (series, value)}.

    Raises UserError where they follow none.
    """
    labels = [experiment.label for experiment in experiments]
    for layout in LAYOUTS:
        matches = [re.fullmatch(layout.pattern, label) for label in labels]
        if all(matches):
            return layout, {label: layout.place(match) for label, match in zip(labels, matches, strict=True)}
    last = [label for label in labels if not re.fullmatch(LAYOUTS[-1].pattern, label)] or labels
    raise UserError(
        f"{folder}: cannot tell what was swept from the folder {last[0]}; expected those "
        "of one analysis_*.sh (nctx8, te_dim64, CoOp-CA/4shots, RN50/CoOp-CA, ...) or .../CFG_4shots/..."
    )


def values_in_order(values: list[str]) -> list[str]:
    """Numbers by size, then words as they come."""
    numbers = sorted({value for value in values if value.isdigit()}, key=int)
    return numbers + [value for value in dict.fromkeys(values) if not value.isdigit()]


def table(experiments: list[Experiment], layout: Layout, places: dict[str, Place], choice: Choice) -> list[dict]:
    """A row of COLUMNS for every experiment with a finished run, in the order of series and values."""
    order = values_in_order([value for _, value in places.values()])
    rows = []
    for experiment in experiments:
        found = stat([choice.overall(run) for run in experiment.finished])
        if found is None:
            continue
        series, value = places[experiment.label]
        relative = relative_stds(experiment, choice)["overall"]
        number = choice.number if choice.task is None else f"{choice.number} of {choice.task[1]}"
        about = (series, layout.setting, value, experiment.label, number)
        rows.append(dict(zip(COLUMNS, (*about, found.n, found.mean, found.spread, relative), strict=True)))
    first = list(dict.fromkeys(row["series"] for row in rows))
    return sorted(rows, key=lambda row: (first.index(row["series"]), order.index(row["value"])))


def draw(figure, rows: list[dict], layout: Layout, choice: Choice, zero_shot: float | None, spread: bool) -> None:
    order = values_in_order([row["value"] for row in rows])
    what = "accuracy" if choice.number == "overall_metric" else choice.number
    of = choice.task[1] if choice.task else "mean over tasks"
    panels = figure.subplots(1, 1 + spread, squeeze=False)[0]
    names = list(dict.fromkeys(row["series"] for row in rows))
    shift = min(0.06, 0.5 / len(names))  # series side by side, so that bars do not hide each other
    for number, name in enumerate(names):
        own = [row for row in rows if row["series"] == name]
        x = [order.index(row["value"]) + shift * (number - (len(names) - 1) / 2) for row in own]
        line = {"ls": "" if layout.setting == "backbone" else "-", "ms": 5, "lw": 1.2, **plots.series(number)}
        panels[0].errorbar(
            x,
            [row["mean_percent"] for row in own],
            [row["std_points"] or 0 for row in own],
            label=plots.wrapped(name, 60),
            capsize=2,
            **line,
        )
        if spread:
            known = [(at, row["relative_std_percent"]) for at, row in zip(x, own, strict=True)]
            known = [pair for pair in known if pair[1] is not None]
            panels[1].plot(*zip(*known, strict=True), **line) if known else None
    if zero_shot is not None:
        panels[0].axhline(zero_shot, color="0.3", ls="--", lw=1, label="zero-shot CLIP")
    panels[0].set_ylabel(f"{what} (%), {of}\nmean ± std over seeds")
    if spread:
        panels[1].set_ylabel("std / mean over seeds (%)")
        panels[1].set_ylim(bottom=0)
    for axes in panels:
        axes.set_xticks(range(len(order)), order, rotation=90 if max(map(len, order)) > 8 else 0)
        axes.set_xlim(-0.5, len(order) - 0.5)
        axes.set_xlabel(layout.setting)
    figure.legend(loc="outside lower center", ncols=1 if max(map(len, names)) > 35 else 3)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.sweep", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", metavar="FOLDER", help="folder of an analysis, or of a suite's results")
    parser.add_argument("--keyword", metavar="K", help="which number, as of parse_test_res.py: a metric or a task")
    parser.add_argument("--zero-shot", metavar="RUN", help="folder of a run of ZeroshotCLIP, drawn as a line")
    parser.add_argument("--relative-std", action="store_true", help="a second panel: std / mean over seeds")
    parser.add_argument("--out", metavar="NAME", help="figure to write; default FOLDER/figures/sweep")
    options = parser.parse_args(arguments)

    def work():
        folder = Path(options.folder)
        out = plots.output(options.out, folder, "sweep")
        everything = find_experiments(folder)
        experiments = [each for each in everything if each.finished]
        if not experiments:
            raise UserError(f"no finished run below {folder}")
        layout, places = layout_of(experiments, folder)
        choice = choose(options.keyword, experiments)
        rows = table(experiments, layout, places, choice)
        level, compared = None, [run for each in experiments for run in each.finished]
        if options.zero_shot:
            zero_shot = load_experiment(Path(options.zero_shot)).finished
            compared += zero_shot
            level = stat([choice.overall(run) for run in zero_shot])
            if level is None:
                raise UserError(f"--zero-shot {options.zero_shot}: no finished run in it")
        spread = layout.spread or options.relative_std
        names = {row["series"] for row in rows}
        lines = len(names) if max(map(len, names)) > 35 else -(-len(names) // 3)
        size = (5.6 + 4.2 * spread, 3.7 + 0.2 * lines)
        with plots.figure(out, COLUMNS, rows, *size) as figure:
            draw(figure, rows, layout, choice, level and level.mean, spread)
        if choice.task is None and len({tuple((task.id, task.name) for task in run.tasks) for run in compared}) > 1:
            print("note: not all have the same tasks: their means are not comparable")
        for row in rows:
            std = "" if row["std_points"] is None else f" ± {row['std_points']:.2f}"
            print(f"{row['series']}, {row['value']}: {row['mean_percent']:.2f}{std} % (n = {row['n']})")
        print_notes(everything)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
