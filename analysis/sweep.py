"""Accuracy against a setting, as mean and standard deviation over seeds, from the output folder of a launcher.

    python -m analysis.sweep output/analysis/icon5/tiny_ep20_4shots/length
    python -m analysis.sweep output/icon5 [--zero-shot output/ZeroshotCLIP/tiny_ep20/icon5]
    python -m analysis.sweep "CoOp-CA=output/icon5/MTCoOpHard/tiny_ep20_*shots/nctx4_cscFalse_tscTrue" ...

Experiments below FOLDER are read as by parse_test_res.py --multi-exp. The names of the folders determine the setting on
the x axis. Supported are the folders of analysis_length.sh, analysis_task_feature.sh, analysis_backbones.sh and
analysis_stability.sh (SoftCPT's Fig. 5 and similar figures), and any .../CFG_SHOTSshots/... of the main launchers:
accuracy against images per class, with one line per method. LABEL=FOLDER names a method; `*` in FOLDER stands for the
number of images per class. The x axis is categorical (evenly spaced). --relative-std adds the standard deviation over
seeds relative to the mean; for analysis_stability.sh it is always on. --compare LABEL also prints the differences
between this series and the others, seed by seed.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

import pandas as pd

from analysis import plots
from analysis.runs import print_notes
from dassl import program
from dassl.utils import UserError
from dassl.utils.arguments import Parser
from reporting.experiments import Experiment, find_experiments, load_experiment
from reporting.frame import frame_of
from reporting.tables import Choice, Numbers, choose, select, statistics
from reporting.text import cell, number_text, render, spread_text

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


NAMED = Layout("images per class", r"(.*) (\d+)", lambda m: (m[1], m[2]))


def named_experiments(given: list[str]) -> list[Experiment]:
    """The experiments of all LABEL=FOLDER in `given`, labelled "LABEL NUMBER"; `*` in FOLDER stands for the number.

    Raises UserError if FOLDER does not contain one `*`, or if it matches no folder.
    """
    found = []
    for text in given:
        label, equals, pattern = text.partition("=")
        before, star, after = pattern.partition("*")
        if not (label and equals and star) or "*" in after:
            raise UserError(f"expected LABEL=FOLDER, with one * for the number of images per class; found {text}")
        name = re.compile(f"{re.escape(before)}(\\d+){re.escape(after)}")
        folders = [
            (match[1], path)
            for path in sorted(glob(f"{escape(before)}*{escape(after)}"))
            if (match := name.fullmatch(path))
        ]
        if not folders:
            raise UserError(f"no such folder: {pattern}")
        found += [load_experiment(Path(path), f"{label} {number}") for number, path in folders]
    return found


def by_method(experiments: list[Experiment], places: dict[str, Place]) -> dict[str, Place]:
    """The places, with the names of methods for series in place of folders, where that keeps the series apart."""
    methods: dict[str, set[str]] = {}
    for experiment in experiments:
        found = {str(run.settings.get("method")) for run in experiment.finished if run.settings.get("method")}
        methods.setdefault(places[experiment.label][0], set()).update(found)
    names = [found for found in methods.values() if len(found) == 1]
    if len(names) < len(methods) or len(set.union(*names)) < len(names) or any("/" not in name for name in methods):
        return places
    return {label: (min(methods[series]), value) for label, (series, value) in places.items()}


def values_in_order(values: list[str]) -> list[str]:
    """Unique values: numbers in increasing order, then words in the given order."""
    numbers = sorted({value for value in values if value.isdigit()}, key=int)
    return numbers + [value for value in dict.fromkeys(values) if not value.isdigit()]


def table(layout: Layout, places: dict[str, Place], numbers: Numbers) -> list[dict]:
    """Rows of COLUMNS, one per experiment with a value, ordered by series and value."""
    order = values_in_order([value for _, value in places.values()])
    choice, relative, rows = numbers.choice, numbers.relative()[numbers.choice.column], []
    number = choice.number if choice.task is None else f"{choice.number} of {choice.task[1]}"
    for label, (series, value) in places.items():
        found = numbers.entry(label, choice.column)
        if found["n"]:
            std = None if found["spread"] is None else relative[label]  # a mean of 0 has no relative std
            about = (series, layout.setting, value, label, number, found["n"], found["mean"], found["spread"])
            rows.append(dict(zip(COLUMNS, (*about, std), strict=True)))
    first = list(dict.fromkeys(row["series"] for row in rows))
    return sorted(rows, key=lambda row: (first.index(row["series"]), order.index(row["value"])))


def text_table(rows: list[dict], layout: Layout, zero_shot: float | None) -> str:
    """Mean ± std of every series (row) and value of the setting (column), with a row for zero-shot CLIP."""
    order = values_in_order([row["value"] for row in rows])
    lines = {}
    for row in rows:
        text = cell(row["mean_percent"], math.nan if row["std_points"] is None else row["std_points"])
        lines.setdefault(row["series"], dict.fromkeys(order, "-"))[row["value"]] = text
    body = [[name, *found.values()] for name, found in lines.items()]
    if zero_shot is not None:
        body.insert(0, ["zero-shot CLIP", *[f"{zero_shot:.2f}"] * len(order)])
    return render([layout.setting, *order], body)


def differences_table(layout: Layout, places: dict[str, Place], frame: pd.DataFrame, choice: Choice, own: str) -> str:
    """Differences of the series `own` to the others: mean ± std over common seeds, and how many are positive.

    Raises UserError if no series has this name.
    """
    names = list(dict.fromkeys(series for series, _ in places.values()))
    if own not in names:
        raise UserError(f"--compare {own}: expected one of {', '.join(names)}")
    known = select(frame, choice.number, choice.task is not None).dropna(subset=["value", "seed"])
    if choice.task is not None:
        known = known[(known["task_id"] == choice.task[0]) & (known["task"] == choice.task[1])]
    known = known.assign(place=known["experiment"].map(places)).drop_duplicates(["place", "seed"])
    values = known.pivot(index="seed", columns="place", values="value")  # a column per (series, value of the setting)
    order, body = values_in_order([value for _, value in places.values()]), []
    for name in (name for name in names if name != own):
        line = [f"{own} - {name}"]
        for value in order:
            mine, its = (values.get((series, value), pd.Series(dtype=float)) for series in (own, name))
            found = mine.sub(its).dropna().to_frame("difference")
            mean, std, n = (part["difference"] for part in statistics(found))
            positive = (found["difference"] > 0).sum()
            line.append(f"{'+' if mean > 0 else ''}{cell(mean, std)} ({positive} of {n})" if n else "-")
        body.append(line)
    return render([layout.setting, *order], body)


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


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.sweep", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", help="output folder of an analysis or a suite, or LABEL=FOLDER ..."
    )
    parser.add_argument("--keyword", metavar="K", help="a metric or a task, as for parse_test_res.py")
    parser.add_argument("--zero-shot", metavar="RUN", help="folder of a run of ZeroshotCLIP, drawn as a line")
    parser.add_argument("--compare", metavar="LABEL", help="print the differences between this series and the others")
    parser.add_argument("--relative-std", action="store_true", help="a second panel: std / mean over seeds")
    parser.add_argument("--out", metavar="NAME", help="figure to write; default: FOLDER/figures/sweep")
    options = parser.parse_args(arguments)

    named = any("=" in text for text in options.folders)
    if not named and len(options.folders) > 1:
        raise UserError(f"expected one folder, or LABEL=FOLDER ...; found {' '.join(options.folders)}")
    if named and not options.out:
        raise UserError("LABEL=FOLDER needs --out NAME, the figure to write")
    folder = Path(options.folders[0])
    out = plots.output(options.out, folder, "sweep")
    everything = named_experiments(options.folders) if named else find_experiments(folder)
    experiments = [each for each in everything if each.finished]
    if not experiments:
        raise UserError(f"no finished run below {' '.join(options.folders)}")
    if named:
        layout = NAMED
        places = {each.label: layout.place(re.fullmatch(layout.pattern, each.label)) for each in experiments}
    else:
        layout, places = layout_of(experiments, folder)
        places = by_method(experiments, places)
    frame = frame_of([(experiment.label, experiment) for experiment in experiments])
    choice = choose(options.keyword, frame)
    rows = table(layout, places, Numbers(frame, choice))
    if options.compare:
        differences = differences_table(layout, places, frame, choice, options.compare)
    level, compared = None, [run for each in experiments for run in each.finished]
    if options.zero_shot:
        zero_shot = load_experiment(Path(options.zero_shot), "zero-shot")
        compared += zero_shot.finished
        level = Numbers(frame_of([("zero-shot", zero_shot)]), choice).entry("zero-shot", choice.column)["mean"]
        if level is None:
            raise UserError(f"--zero-shot {options.zero_shot}: it contains no finished run")
    spread = layout.spread or options.relative_std
    names = {row["series"] for row in rows}
    lines = len(names) if max(map(len, names)) > 35 else -(-len(names) // 3)
    size = (5.6 + 4.2 * spread, 3.7 + 0.2 * lines)
    with plots.figure(out, COLUMNS, rows, *size) as figure:
        draw(figure, rows, layout, choice, level, spread)
    if choice.task is None and len({tuple((task.id, task.name) for task in run.tasks) for run in compared}) > 1:
        print("note: the runs have different tasks, so their means are not comparable")
    if named:
        print(f"\n{spread_text(False)};\n{number_text(choice)}\n\n{text_table(rows, layout, level)}")
    else:
        for row in rows:
            std = "" if row["std_points"] is None else f" ± {row['std_points']:.2f}"
            print(f"{row['series']}, {row['value']}: {row['mean_percent']:.2f}{std} % (n = {row['n']})")
    if options.compare:
        print(f"\ndifferences, seed by seed (in brackets: seeds with a positive one)\n\n{differences}")
    print_notes(everything)


if __name__ == "__main__":
    sys.exit(main())
