"""Experiments as JSON and CSV with unrounded numbers."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence

from reporting.experiments import Choice, Experiment, Stat, stat

COLUMNS = (
    "experiment",
    "task_id",
    "task",
    "metric",
    "images",
    "n",
    "mean",
    "spread",
    "seeds",
    "missing",
    "unfinished",
    "chosen_on",
)


def plain(value: Stat | None) -> dict:
    """A statistic as plain values for JSON."""
    return {"mean": None, "spread": None, "n": 0} if value is None else dict(vars(value))


def describe(experiment: Experiment, choice: Choice, ci95: bool) -> dict:
    """One experiment as plain values: mean, spread (None if n = 1), n and values, overall and per task."""

    def entry(values: dict[str, float | None]) -> dict:
        return {**plain(stat(list(values.values()), ci95)), "values": values}

    runs = experiment.finished
    tasks = experiment.tasks()
    if choice.task is not None:
        tasks = [task for task in tasks if (task.id, task.name) == choice.task]
    return {
        "experiment": experiment.label,
        "folder": str(experiment.folder),
        "settings": runs[0].settings if runs else {},
        "overrides": runs[0].overrides if runs else {},
        "overall": entry({run.label: choice.overall(run) for run in runs}),
        "tasks": [
            {
                "id": task.id,
                "name": task.name,
                "metric": task.metric if choice.number == "overall_metric" else choice.number,
                "images": task.images,
                **entry({run.label: choice.of_task(run, (task.id, task.name)) for run in runs}),
            }
            for task in tasks
        ],
        "sources": {run.label: run.source for run in runs},
        "missing": experiment.missing,
        "unfinished": {run.label: run.problem for run in experiment.unfinished},
        "notes": experiment.notes(),
        "chosen_on": "test" if experiment.mark else "",
    }


def as_json(experiments: list[Experiment], choice: Choice, ci95: bool, **more) -> str:
    """Experiments and the entries of `more` as one JSON object."""
    described = [describe(experiment, choice, ci95) for experiment in experiments]
    means = [item["overall"]["mean"] for item in described if item["overall"]["mean"] is not None]
    data = {
        "number": choice.number,
        "task": None if choice.task is None else choice.task[1],
        "spread": "ci95" if ci95 else "std",
        "ddof": 0,
        "experiments": described,
        "average": sum(means) / len(means) if means else None,
        **more,
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def as_csv(
    experiments: list[Experiment], choice: Choice, ci95: bool, pairs: list[dict] = (), further: Sequence[Choice] = ()
) -> str:
    """A row per experiment and task, and one with an empty task for the overall value.

    The same rows for each choice of `further` follow, and below them the harmonic means of `pairs`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, experiment in ((number, experiment) for number in (choice, *further) for experiment in experiments):
        data = describe(experiment, number, ci95)
        state = (
            " ".join(data["overall"]["values"]),
            " ".join(str(seed) for seed in data["missing"]),
            " ".join(data["unfinished"]),
            data["chosen_on"],
        )
        overall = data["overall"]
        rows = [("", "", number.number, "", overall)] if number.task is None else []
        rows = [(task["id"], task["name"], task["metric"], task["images"], task) for task in data["tasks"]] + rows
        for *about, value in rows:
            writer.writerow([data["experiment"], *about, value["n"], value["mean"], value["spread"], *state])
    for pair in pairs:
        label = "/".join(filter(None, (pair["experiment"], "harmonic")))
        overall = [] if choice.task else [{"id": "", "name": "", **pair["overall"]}]
        for row in (*pair["tasks"], *overall):
            value = row["harmonic"] or plain(None)
            numbers = (value["n"], value["mean"], value["spread"])
            writer.writerow([label, row["id"], row["name"], choice.number, "", *numbers, "", "", "", ""])
    return text.getvalue()


def output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `emit` reads."""
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON instead of the table")
    output.add_argument("--csv", action="store_true", help="print CSV instead of the table")


def emit(options, notes: str, as_json: Callable[[], str], as_csv: Callable[[], str], show: Callable[[], None]) -> None:
    """Print JSON, CSV or, by `show`, tables. Notes follow tables; with JSON and CSV they go to standard error."""
    if options.json or options.csv:
        print((as_json if options.json else as_csv)(), end="")
    else:
        show()
    if notes and (options.json or options.csv):
        print(notes, file=sys.stderr)
    elif notes:
        print("\n" + notes)
