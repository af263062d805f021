"""Base to new: the experiments on the base classes and on the new classes, and their harmonic mean.

The two halves are sibling folders: `.../base/seed1` and `.../new/seed1`, with task folders above or below them, or
`base/plant6` and `new/plant6` for zero-shot CLIP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from dassl.runs.record import is_run
from dassl.runs.results import TaskResult
from reporting.experiments import Experiment, ReportError, Seeds, find_experiments, load_experiment, named_folders
from reporting.export import describe
from reporting.frame import frame_of
from reporting.tables import OVERALL, Choice, Numbers, Stats, statistics
from reporting.text import Table, mean_title, spread_text

COLUMNS = ["base", "new", "harmonic"]
TEXT = (
    "H: harmonic mean of the two means, as in published tables; its ± is over the seeds' own harmonic means.\n"
    "means over tasks: over the tasks that have base and new classes"
)


def harmonic(base, new):
    """2 b n / (b + n) of numbers or arrays; 0 where both are 0."""
    total = np.asarray(base + new, dtype=float)
    return 2 * base * new / np.where(total == 0, 1.0, total)


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

    def values(self, numbers: Numbers, task: tuple[int, str] | None = None) -> pd.DataFrame:
        """The values of the two halves, and their harmonic means: a row per seed.

        Without a task, these are the values over the tasks that both halves have.
        """
        both = [(task.id, task.name) for task, common in self.tasks() if common]
        found = {}
        for half, part in (("base", self.base), ("new", self.new)):
            own, column = numbers.of(part.label), task or numbers.choice.column
            found[half] = own[column] if column in own else pd.Series(dtype=float)
            if column == OVERALL and both:
                more = own.drop(columns=[OVERALL]).notna().sum(axis=1) > len(both)
                found[half] = found[half].mask(more & found[half].notna(), own[both].mean(axis=1))
        if len(found["base"]) == len(found["new"]) == 1:  # single runs: their labels are not seeds
            found["new"] = found["new"].set_axis(found["base"].index)
        halves = pd.DataFrame(found)
        return halves.assign(harmonic=harmonic(halves["base"], halves["new"]))

    def stats(self, numbers: Numbers, task: tuple[int, str] | None = None) -> Stats:
        """Statistics of base, new and harmonic mean; NaN where there is no value."""
        found = statistics(self.values(numbers, task), numbers.ci95)
        if found.n["harmonic"]:
            found.mean["harmonic"] = harmonic(found.mean["base"], found.mean["new"])
        return found

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


def halves_table(pair: Halves, numbers: Numbers) -> Table:
    """A row per task and one overall."""
    rows, choice = [], numbers.choice
    if choice.task is None:
        for task, _ in pair.tasks():
            metric = task.metric if choice.number == "overall_metric" else choice.number
            rows.append([task.name, metric or "-", *pair.stats(numbers, (task.id, task.name)).texts()])
    rows.append([mean_title(choice, len(pair.tasks())), choice.number, *pair.stats(numbers).texts()])
    return Table(["task", "metric", "base", "new", "H"], rows, left=2, legend=TEXT)


def pairs_table(pairs: list[Halves], numbers: Numbers) -> Table:
    """A row per experiment: overall values."""
    rows = [[(pair.label or "-") + pair.base.mark, *pair.stats(numbers).texts()] for pair in pairs]
    return Table(["base to new", "base", "new", "H"], rows, legend=TEXT)


def rows_table(rows: Sequence[str], seeds: Seeds = None) -> str:
    """The table of LABEL=FOLDER words with its notes; {half} in a folder stands for base and new."""
    pairs = []
    for label, folder in named_folders(rows):
        folders = {half: Path(str(folder).replace("{half}", half)) for half in ("base", "new")}
        # a run without seeds, as of zero-shot CLIP, has no expected ones
        given = {half: None if is_run(each) else seeds for half, each in folders.items()}
        halves = (load_experiment(folders[half], f"{label}/{half}", seeds=given[half]) for half in folders)
        pairs.append(Halves(label, *halves))
    frame = frame_of([(part.label, part) for pair in pairs for part in (pair.base, pair.new)])
    text = f"{spread_text(False)}\n\n{pairs_table(pairs, Numbers(frame, Choice()))}"
    notes = [f"note: {pair.label}: {note}" for pair in pairs for note in pair.notes()]
    return "\n".join([text, *notes])


def as_plain(pair: Halves, numbers: Numbers) -> dict:
    """A pair as plain values for JSON, unrounded."""

    def entry(stats: Stats) -> dict:
        return {name: stats.plain(name) if stats.n[name] else None for name in COLUMNS}

    tasks = [(t.id, t.name) for t, _ in pair.tasks() if numbers.choice.task in (None, (t.id, t.name))]
    return {
        "experiment": pair.label,
        "overall": entry(pair.stats(numbers)),
        "tasks": [{"id": id_, "name": name, **entry(pair.stats(numbers, (id_, name)))} for id_, name in tasks],
        "base": describe(pair.base, numbers),
        "new": describe(pair.new, numbers),
        "notes": pair.notes(),
    }
