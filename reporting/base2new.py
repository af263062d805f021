"""Base to new: the experiments on the base classes and on the new classes, and their harmonic mean.

The two halves are sibling folders: `.../base/seed1` and `.../new/seed1`, with task folders above or below them, or
`base/plant6` and `new/plant6` for zero-shot CLIP.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from dassl.runs.record import Run, TaskResult, is_run
from reporting.experiments import (
    Choice,
    Experiment,
    ReportError,
    Seeds,
    Stat,
    find_experiments,
    load_experiment,
    named_folders,
    spread,
    stat,
)
from reporting.export import describe
from reporting.table import cell, mean_title, render, spread_text

TEXT = (
    "H: harmonic mean of the two means, as in published tables; its ± is over the seeds' own harmonic means.\n"
    "means over tasks: over the tasks that have base and new classes"
)


def harmonic(base: float, new: float) -> float:
    """2 b n / (b + n); 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


@dataclass
class Halves:
    """The experiments on the base classes and on the new classes, with the same settings."""

    label: str
    base: Experiment
    new: Experiment

    def tasks(self) -> list[tuple[TaskResult, bool]]:
        """The tasks of the base classes, each with whether it has new classes as well."""
        new = {(task.id, task.name) for task in self.new.tasks()}
        return [(task, (task.id, task.name) in new) for task in self.base.tasks()]

    def value(self, run: Run, choice: Choice) -> float | None:
        """A run's overall value over the tasks that both halves have."""
        both = [(task.id, task.name) for task, common in self.tasks() if common]
        if choice.task is not None or len(both) == len(run.tasks) or not run.numbers:
            return choice.overall(run)
        values = [choice.of_task(run, task) for task in both]
        measured = [value for value in values if value is not None]
        return statistics.fmean(measured) if measured else None

    def numbers(self, value, ci95: bool = False) -> tuple[Stat | None, Stat | None, Stat | None]:
        """Statistics of `value(run)`: base, new, harmonic mean. None where there is no value."""
        base = {run.label: value(run) for run in self.base.finished}
        new = {run.label: value(run) for run in self.new.finished}
        both = [label for label in base if base[label] is not None and new.get(label) is not None]
        if len(base) == len(new) == 1:  # single runs: their labels are not seeds
            pairs = [(b, n) for b, n in zip(base.values(), new.values(), strict=True) if None not in (b, n)]
        else:
            pairs = [(base[label], new[label]) for label in both]
        means = stat(list(base.values()), ci95), stat(list(new.values()), ci95)
        if None in means or not pairs:
            return *means, None
        each = [harmonic(*pair) for pair in pairs]
        return *means, Stat(harmonic(means[0].mean, means[1].mean), spread(each, ci95), len(each))

    def overall(self, choice: Choice, ci95: bool = False):
        return self.numbers(lambda run: self.value(run, choice), ci95)

    def of_task(self, task: TaskResult, choice: Choice, ci95: bool = False):
        return self.numbers(lambda run: choice.of_task(run, (task.id, task.name)), ci95)

    def notes(self) -> list[str]:
        notes = [f"{half}: {note}" for half, part in (("base", self.base), ("new", self.new)) for note in part.notes()]
        seeds = [{run.label for run in part.finished} for part in (self.base, self.new)]
        if seeds[0] != seeds[1] and max(map(len, seeds)) > 1:
            notes.append("base and new do not have the same seeds; the ± of H is over those of both")
        if self.new.finished and (alone := [task.name for task, common in self.tasks() if not common]):
            notes.append(f"without new classes, so not in the overall values: {', '.join(alone)}")
        return notes


def halves(experiments: list[Experiment]) -> list[Halves]:
    """The pairs of base and new classes among `experiments`, as `find_experiments` returns them."""
    by_label = {experiment.label: experiment for experiment in experiments}
    found = []
    for experiment in experiments:
        parts = PurePath(experiment.label).parts
        for position in reversed(range(len(parts))):
            new = str(PurePath(*parts[:position], "new", *parts[position + 1 :]))
            if parts[position] == "base" and new in by_label:
                label = str(PurePath(*parts[:position], *parts[position + 1 :]))
                found.append(Halves("" if label == "." else label, experiment, by_label[new]))
                break
    return found


def load_halves(folder: Path, test_log: bool = False, seeds: Seeds = None) -> Halves | None:
    """The two halves in a folder, or None if it does not contain exactly a pair.

    Raises:
        ReportError: the folder contains several pairs.
    """
    if folder.name == "task*":  # this pattern selects one experiment
        return None
    experiments = find_experiments(folder, test_log, seeds)
    pairs = halves(experiments)
    if len(pairs) > 1 and len(experiments) == 2 * len(pairs):
        names = ", ".join(pair.label for pair in pairs[:4])
        raise ReportError(f"{folder} holds base and new classes of {len(pairs)} experiments ({names}): use --multi-exp")
    return pairs[0] if len(pairs) == 1 and len(experiments) == 2 else None


# ---------------------------------------------------------------------------------------------------- output


def halves_table(pair: Halves, choice: Choice, ci95: bool = False) -> str:
    """Markdown table with a row per task and one overall."""
    rows = []
    if choice.task is None:
        for task, _ in pair.tasks():
            number = task.metric if choice.number == "overall_metric" else choice.number
            rows.append([task.name, number or "-", *map(cell, pair.of_task(task, choice, ci95))])
    name = mean_title(choice, len(pair.tasks()))
    rows.append([name, choice.number, *map(cell, pair.overall(choice, ci95))])
    return render(["task", "metric", "base", "new", "H"], rows, left=2)


def pairs_table(pairs: list[Halves], choice: Choice, ci95: bool = False) -> str:
    """Markdown table with a row per experiment: overall values."""
    rows = [[(pair.label or "-") + pair.base.mark, *map(cell, pair.overall(choice, ci95))] for pair in pairs]
    return render(["base to new", "base", "new", "H"], rows)


def rows_table(rows: Sequence[str], seeds: Seeds = None) -> str:
    """The table of LABEL=FOLDER words with its notes; {half} in a folder stands for base and new."""
    pairs = []
    for label, folder in named_folders(rows):
        folders = [Path(str(folder).replace("{half}", half)) for half in ("base", "new")]
        base, new = (load_experiment(each, label, seeds=_seeds_of(each, seeds)) for each in folders)
        pairs.append(Halves(label, base, new))
    text = f"{spread_text(False)}\n\n{pairs_table(pairs, Choice())}\n\n{TEXT}"
    notes = [f"note: {pair.label}: {note}" for pair in pairs for note in pair.notes()]
    return "\n".join([text, *notes])


def _seeds_of(folder: Path, seeds: Seeds) -> Seeds:
    """The expected seeds of a folder: none if it is itself a run, as of zero-shot CLIP."""
    return None if is_run(folder) else seeds


def as_plain(pair: Halves, choice: Choice, ci95: bool) -> dict:
    """A pair as plain values for JSON, unrounded."""

    def entry(numbers) -> dict:
        names = ("base", "new", "harmonic")
        return {name: None if n is None else dict(vars(n)) for name, n in zip(names, numbers, strict=True)}

    tasks = [task for task, _ in pair.tasks() if choice.task in (None, (task.id, task.name))]
    return {
        "experiment": pair.label,
        "overall": entry(pair.overall(choice, ci95)),
        "tasks": [{"id": t.id, "name": t.name, **entry(pair.of_task(t, choice, ci95))} for t in tasks],
        "base": describe(pair.base, choice, ci95),
        "new": describe(pair.new, choice, ci95),
        "notes": pair.notes(),
    }
