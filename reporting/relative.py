"""Standard deviation over seeds relative to the mean: the stability of a method, independent of its level."""

from reporting.experiments import Choice, Experiment, stat
from reporting.table import render

TEXT = "relative standard deviation over seeds (population std / mean, per cent); of a task: the mean over the tasks"


def relative(values: list[float | None]) -> float | None:
    """100 * std / mean of the values that are not None; None for fewer than two values or a mean of 0."""
    found = stat(values)
    return 100 * found.spread / found.mean if found and found.spread is not None and found.mean else None


def relative_stds(experiment: Experiment, choice: Choice) -> dict:
    """{"overall", "of_a_task", "tasks": {name: ...}} of one experiment, per cent or None.

    "overall" is computed from the seeds' overall values; "of_a_task" is the mean over the tasks of their own values.
    """
    runs = experiment.finished
    tasks = experiment.tasks() if choice.task is None else []
    each = {t.name: relative([choice.of_task(run, (t.id, t.name)) for run in runs]) for t in tasks}
    known = [value for value in each.values() if value is not None]
    return {
        "overall": relative([choice.overall(run) for run in runs]),
        "of_a_task": sum(known) / len(known) if known else None,
        "tasks": each,
    }


def relative_table(experiments: list[Experiment], choice: Choice) -> str:
    """Markdown table with a row per experiment."""
    rows = []
    for experiment in experiments:
        found = relative_stds(experiment, choice)
        numbers = ["-" if found[key] is None else f"{found[key]:.2f}" for key in ("overall", "of_a_task")]
        rows.append([experiment.label, str(len(experiment.finished)), *numbers])
    return render(["experiment", "n", "overall", "of a task"], rows)
