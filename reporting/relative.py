"""Standard deviation over seeds relative to the mean: the stability of a method, independent of its level."""

from collections.abc import Sequence

from reporting.experiments import Experiment
from reporting.tables import Numbers
from reporting.text import Table

TEXT = "relative standard deviation over seeds (population std / mean, per cent); of a task: the mean over the tasks"


def relative_stds(experiments: Sequence[Experiment], numbers: Numbers) -> dict[str, dict]:
    """{label: {"overall", "of_a_task", "tasks": {name: ...}}}, per cent or None.

    "overall" is computed from the seeds' overall values; "of_a_task" is the mean over the tasks of their own values.
    """
    ratios, found = numbers.relative(), {}
    for experiment in experiments:
        own = ratios.loc[experiment.label].dropna().to_dict() if experiment.label in ratios.index else {}
        tasks = [(t.id, t.name) for t in experiment.tasks()] if numbers.choice.task is None else []
        known = [own[task] for task in tasks if task in own]
        found[experiment.label] = {
            "overall": own.get(numbers.choice.column),
            "of_a_task": sum(known) / len(known) if known else None,
            "tasks": {name: own.get((id_, name)) for id_, name in tasks},
        }
    return found


def relative_table(experiments: Sequence[Experiment], numbers: Numbers) -> Table:
    """A row per experiment."""
    found, rows = relative_stds(experiments, numbers), []
    for experiment in experiments:
        values = [found[experiment.label][key] for key in ("overall", "of_a_task")]
        shown = ["-" if value is None else f"{value:.2f}" for value in values]
        rows.append([experiment.label, str(len(experiment.finished)), *shown])
    return Table(["experiment", "n", "overall", "of a task"], rows)
