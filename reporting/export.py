"""Print tables for people (text, Markdown, LaTeX), and experiments with unrounded numbers for programs (JSON, CSV)."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

import pandas as pd

from reporting.experiments import Experiment
from reporting.tables import Numbers
from reporting.text import Table, comment

COLUMNS = ("experiment", "task_id", "task", "metric", "images", "n", "mean", "spread")
COLUMNS += ("seeds", "missing", "unfinished", "chosen_on")


def describe(experiment: Experiment, numbers: Numbers) -> dict:
    """One experiment as plain values: mean, spread (None if n = 1), n and values, overall and per task."""
    runs, choice = experiment.finished, numbers.choice
    tasks = [task for task in experiment.tasks() if choice.task in (None, (task.id, task.name))]
    return {
        "experiment": experiment.label,
        "folder": str(experiment.folder),
        "settings": runs[0].settings if runs else {},
        "overrides": runs[0].overrides if runs else {},
        "overall": numbers.entry(experiment.label, choice.column),
        "tasks": [
            {
                "id": task.id,
                "name": task.name,
                "metric": task.metric if choice.number == "overall_metric" else choice.number,
                "images": task.images,
                **numbers.entry(experiment.label, (task.id, task.name)),
            }
            for task in tasks
        ],
        "sources": {run.label: run.source for run in runs},
        "missing": experiment.missing,
        "unfinished": {run.label: run.problem for run in experiment.unfinished},
        "notes": experiment.notes(),
        "chosen_on": "test" if experiment.mark else "",
    }


def json_text(data) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def as_json(experiments: Sequence[Experiment], numbers: Numbers, **more) -> str:
    """Experiments and the entries of `more` as one JSON object."""
    choice, described = numbers.choice, [describe(experiment, numbers) for experiment in experiments]
    means = [item["overall"]["mean"] for item in described if item["overall"]["mean"] is not None]
    about = {"number": choice.number, "task": None if choice.task is None else choice.task[1]}
    about |= {"spread": "ci95" if numbers.ci95 else "std", "ddof": 0, "experiments": described}
    return json_text({**about, "average": sum(means) / len(means) if means else None, **more})


def as_csv(experiments: Sequence[Experiment], several: Sequence[Numbers], pairs: Sequence[dict] = ()) -> str:
    """A row per experiment and task, and one with an empty task for the overall value.

    These rows are repeated for each of `several` numbers. The harmonic means of `pairs` follow.
    """
    rows = []
    for numbers, experiment in ((numbers, experiment) for numbers in several for experiment in experiments):
        data, choice = describe(experiment, numbers), numbers.choice
        state = {"seeds": " ".join(data["overall"]["values"]), "missing": " ".join(map(str, data["missing"]))}
        state |= {"unfinished": " ".join(data["unfinished"])}
        overall = [{"metric": choice.number, **data["overall"]}] if choice.task is None else []
        rows += [{**data, **state, "task_id": t.get("id"), "task": t.get("name"), **t} for t in data["tasks"] + overall]
    for pair in pairs:
        label, metric = "/".join(filter(None, (pair["experiment"], "harmonic"))), several[0].choice.number
        for row in (*pair["tasks"], *([] if several[0].choice.task else [pair["overall"]])):
            about = {"experiment": label, "task_id": row.get("id"), "task": row.get("name"), "metric": metric}
            rows.append({**about, **(row["harmonic"] or {"n": 0})})
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).to_csv(index=False, lineterminator="\n")


def output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `emit` reads."""
    output = parser.add_mutually_exclusive_group()
    formats = ("text", "csv", "json", "markdown", "latex")
    output.add_argument("--format", choices=formats, default="text", help="what to print (default: text)")
    for name in ("json", "csv"):
        output.add_argument(f"--{name}", action="store_const", const=name, dest="format", help=f"--format {name}")


def emit(
    options,
    notes: str,
    as_json: Callable[[], str],
    as_csv: Callable[[], str],
    blocks: Callable[[], Sequence[str | Table]],
) -> None:
    """Print JSON, CSV or texts with tables. Notes follow tables; with JSON and CSV they go to standard error."""
    if options.format in ("json", "csv"):
        print((as_json if options.format == "json" else as_csv)(), end="")
        if notes:
            print(notes, file=sys.stderr)
        return
    shown, between = [*blocks(), *([f"\n{notes}"] if notes else [])], "\n"
    if options.format == "latex":  # all but the tables is a comment; an empty line ends a paragraph
        shown = [f"{block.latex()}\n" if isinstance(block, Table) else comment(block) for block in shown]
    elif options.format == "markdown":  # each line is a paragraph
        between = "\n\n"
        shown = [block.markdown() if isinstance(block, Table) else _paragraphs(block) for block in shown]
    print(between.join(map(str, shown)))


def _paragraphs(text: str) -> str:
    return "\n\n".join(filter(None, text.splitlines()))
