"""Tables of tasks trained from scratch and from a model of other tasks (MVLPT's multi-task initialisation)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reporting.experiments import Choice, Experiment, ReportError, Seeds, load_experiment, stat
from reporting.table import cell, number_text, render, spread_text

Values = dict[int | None, float]  # {seed: per cent}
HEAD = ["task", "from scratch", "from sources", "difference"]
TEXT = "difference: mean over the seeds that both have, in points"


def continued_tables(rows: Sequence[tuple[str, str, str]], seeds: Seeds = None) -> str:
    """One table per method: target task x {from scratch, from sources, difference}.

    Args:
        rows: (label, folder of the runs from scratch, folder of the runs from the model of the sources). Folders end in
            "task*": one run per task and seed.
        seeds: the expected seeds; missing ones are reported.
    """
    choice, parts = Choice(), [f"{spread_text(False)}; {number_text(Choice())}; {TEXT}"]
    for label, *folders in rows:
        try:
            scratch, continued = (load_experiment(Path(folder), label, seeds=seeds) for folder in folders)
        except ReportError as error:
            parts.append(f"{label}: {error}")
            continue
        parts.append(f"{label}\n{_table(scratch, continued, choice)}")
        for name, part in (("from scratch", scratch), ("from sources", continued)):
            parts += [f"note: {label}, {name}: {note}" for note in part.notes()]
    return "\n\n".join(parts)


def _table(scratch: Experiment, continued: Experiment, choice: Choice) -> str:
    tasks = sorted(dict.fromkeys((task.id, task.name) for part in (scratch, continued) for task in part.tasks()))
    values = [[_by_seed(part, choice, task) for part in (scratch, continued)] for task in tasks]
    rows = [_row(task[1], *pair) for task, pair in zip(tasks, values, strict=True)]
    means = [_mean([pair[i] for pair in values]) for i in range(2)]
    return render(HEAD, [*rows, _row("mean", *means)] if len(tasks) > 1 else rows)


def _row(label: str, before: Values, after: Values) -> list[str]:
    gains = stat([after[seed] - before[seed] for seed in sorted(before.keys() & after.keys())])
    shown = "-" if gains is None else f"{'+' if gains.mean >= 0 else ''}{cell(gains)}"
    return [label, *(cell(stat(list(part.values()))) for part in (before, after)), shown]


def _by_seed(part: Experiment, choice: Choice, task: tuple[int, str]) -> Values:
    """{seed: value of a task}, of the runs that have it."""
    found = {run.seed: choice.of_task(run, task) for run in part.runs}
    return {seed: value for seed, value in found.items() if value is not None}


def _mean(values: Sequence[Values]) -> Values:
    """{seed: mean over the tasks}, of the seeds that have all tasks of the table."""
    seeds = set.intersection(*(set(each) for each in values))
    return {seed: sum(each[seed] for each in values) / len(values) for seed in seeds}
