"""Accuracy against a setting, as mean and standard deviation over seeds, from the output folder of a launcher.

    python -m analysis.sweep output/analysis/icon5/tiny_ep20_4shots/length
    python -m analysis.sweep output/icon5 [--zero-shot output/ZeroshotCLIP/tiny_ep20/icon5]

Experiments below FOLDER are read as by parse_test_res.py --multi-exp. The names of the folders determine the setting on
the x axis. Supported are the folders of analysis_length.sh, analysis_task_feature.sh, analysis_backbones.sh and
analysis_stability.sh (SoftCPT's Fig. 5 and similar figures), and any .../CFG_SHOTSshots/... of the main launchers:
accuracy against images per class, with one line per method. The x axis is categorical (evenly spaced). --relative-std
adds the standard deviation over seeds relative to the mean; for analysis_stability.sh it is always on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis import plots
from analysis.runs import print_notes, run_command
from dassl.utils import UserError
from dassl.utils.arguments import Parser
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
    """Naming scheme of a launcher's folders: labels match `pattern`, and `place` turns a match into (series, value)."""

    setting: str  # label of the x axis
    pattern: str
    place: Callable[[re.Match], Place]
    spread: bool = False  # whether the standard deviation is always drawn


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
    Layout("images per class", r"(CoOp-CA|SoftCPT-NATA)/(\d+)shots", lambda m: (m[1], m[2]), True),
    Layout("backbone", r"([^/]+)/(CoOp-CA|SoftCPT-NATA)", lambda m: (m[2], m[1])),
    Layout("images per class", r"(.*/)?([^/]+?)_?(\d+)shots(/.*)?", lambda m: (_words(m[1], m[2], m[4]), m[3])),
)


def layout_of(experiments: list[Experiment], folder: Path) -> tuple[Layout, dict[str, Place]]:
    """The first layout that matches all experiments, and {label: (series, value)}.

    Raises UserError if none matches.
    """
    labels = [experiment.label for experiment in experiments]
    for layout in LAYOUTS:
        matches = [re.fullmatch(layout.pattern, label) for label in labels]
        if all(matches):
            return layout, {label: layout.place(match) for label, match in zip(labels, matches, strict=True)}
    last = [label for label in labels if not re.fullmatch(LAYOUTS[-1].pattern, label)] or labels
    raise UserError(
        f"{folder}: cannot tell which setting was varied from the folder {last[0]}; expected the folders of "
        "one analysis_*.sh (nctx8, te_dim64, CoOp-CA/4shots, RN50/CoOp-CA, ...) or .../CFG_4shots/..."
    )


def values_in_order(values: list[str]) -> list[str]:
    """Unique values: numbers in increasing order, then words in the given order."""
    numbers = sorted({value for value in values if value.isdigit()}, key=int)
    return numbers + [value for value in dict.fromkeys(values) if not value.isdigit()]


def table(experiments: list[Experiment], layout: Layout, places: dict[str, Place], choice: Choice) -> list[dict]:
    """Rows of COLUMNS, one per experiment with a finished run, ordered by series and value."""
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
    shift = min(0.06, 0.5 / len(names))  # shifts the series, so that error bars do not overlap
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
    parser = Parser(prog="python -m analysis.sweep", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", metavar="FOLDER", help="output folder of an analysis, or of a suite")
    parser.add_argument("--keyword", metavar="K", help="a metric or a task, as for parse_test_res.py")
    parser.add_argument("--zero-shot", metavar="RUN", help="folder of a run of ZeroshotCLIP, drawn as a line")
    parser.add_argument("--relative-std", action="store_true", help="a second panel: std / mean over seeds")
    parser.add_argument("--out", metavar="NAME", help="figure to write; default: FOLDER/figures/sweep")
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
                raise UserError(f"--zero-shot {options.zero_shot}: it contains no finished run")
        spread = layout.spread or options.relative_std
        names = {row["series"] for row in rows}
        lines = len(names) if max(map(len, names)) > 35 else -(-len(names) // 3)
        size = (5.6 + 4.2 * spread, 3.7 + 0.2 * lines)
        with plots.figure(out, COLUMNS, rows, *size) as figure:
            draw(figure, rows, layout, choice, level and level.mean, spread)
        if choice.task is None and len({tuple((task.id, task.name) for task in run.tasks) for run in compared}) > 1:
            print("note: the runs have different tasks, so their means are not comparable")
        for row in rows:
            std = "" if row["std_points"] is None else f" ± {row['std_points']:.2f}"
            print(f"{row['series']}, {row['value']}: {row['mean_percent']:.2f}{std} % (n = {row['n']})")
        print_notes(everything)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
