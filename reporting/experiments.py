"""Experiments, i.e. folders with a run per seed (or with such a folder per task)."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

from dassl.runs.record import is_run, seed_of_name
from dassl.runs.results import SETTINGS, Run, TaskResult, read_run
from dassl.utils.errors import UserError
from reporting.per_task import join, place

RECORDED = ("OPTIM.MAX_EPOCH", "MODEL.BACKBONE.NAME")  # overrides that are among SETTINGS under other names
CHOSEN_ON_TEST = "‡ test images chose settings of the method, as published: the number is too high to be compared"
Seeds = list[int] | None  # the expected seeds; None: see `missing_seeds`


class ReportError(UserError):
    """A mistake of the user; the text says what was expected and what was found."""


@dataclass
class Experiment:
    """The runs of one folder, ordered by seed."""

    folder: Path
    label: str
    runs: list[Run]
    missing: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # about other runs in the folder

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.finished]

    @property
    def unfinished(self) -> list[Run]:
        return [run for run in self.runs if not run.finished]

    @property
    def mark(self) -> str:
        """The mark of labels in tables, see CHOSEN_ON_TEST."""
        return " ‡" if any(run.chosen_on_test for run in self.finished) else ""

    def tasks(self) -> list[TaskResult]:
        """The distinct tasks of all finished runs, ordered by number."""
        tasks: dict[tuple, TaskResult] = {}
        for run in self.finished:
            for task in run.tasks:
                known = tasks.get((task.id, task.name))
                if known is None or not known.metric:  # a log does not contain the metric
                    tasks[task.id, task.name] = task
        return [tasks[key] for key in sorted(tasks)]

    def notes(self) -> list[str]:
        """Notes below a table: missing and unfinished seeds, differing settings and tasks."""
        notes = [*self.remarks, *([CHOSEN_ON_TEST] if self.mark else [])]
        if self.missing:
            notes.append("missing: " + ", ".join(f"seed {seed}" for seed in self.missing))
        notes += [f"unfinished: {run.label} ({run.problem})" for run in self.unfinished]
        for run in self.finished:
            notes += [note for note in run.notes if note not in notes]
        notes += [f"the runs differ in {name}: {values}" for name, values in differing(self.finished).items()]
        whole = [run for run in self.finished if run.numbers]  # runs without overall values have a note of their own
        if len({frozenset((task.id, task.name) for task in run.tasks) for run in whole}) > 1:
            notes.append("the runs do not have the same tasks: overall values are means over different tasks")
        for task in self.tasks():
            empty = [run.label for run in self.finished if _has_empty(run, task)]
            if empty:
                notes.append(f"{task.name}: no value in {', '.join(empty)}")
        return notes


def differing(runs: list[Run]) -> dict[str, str]:
    """The recorded settings in which runs differ, with their values."""
    values = {
        name: {str(run.settings[name]) for run in runs if run.settings.get(name) is not None}
        for name in SETTINGS
        if name != "trainer"  # the method says it, too
    }
    own = {key for run in runs for key in run.overrides if key not in RECORDED}
    values |= {key: {str(run.overrides.get(key, "as in the file")) for run in runs} for key in sorted(own)}
    return {name: ", ".join(sorted(found)) for name, found in values.items() if len(found) > 1}


def _has_empty(run: Run, task: TaskResult) -> bool:
    return any(
        (other.id, other.name) == (task.id, task.name) and other.numbers.get("overall_metric") is None
        for other in run.tasks
    )


# ---------------------------------------------------------------------------------------------------- folders


def _natural(path: Path) -> list:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name) if part]


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path) for entry in entries if os.path.isdir(entry.path)), key=_natural)


def _seed_folders(folder: Path) -> list[Path]:
    seeds = [path for path in _subfolders(folder) if seed_of_name(path.name) is not None]
    return sorted(seeds, key=lambda path: seed_of_name(path.name))


def named_folders(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """(label, folder) of each LABEL=FOLDER.

    Raises:
        ReportError: a text without "=", or a label that is given twice.
    """
    for text in texts:
        if "=" not in text:
            raise ReportError(f'expected LABEL=FOLDER, e.g. CoOp=output/..., found "{text}"')
    parts = [text.partition("=") for text in texts]
    labels = [label for label, _, _ in parts]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ReportError(f'the label "{twice[0]}" is given {labels.count(twice[0])} times; each row needs its own')
    return [(label, Path(folder)) for label, _, folder in parts]


def missing_seeds(seeds: list[int], beside: Collection[int] = ()) -> list[int]:
    """Missing seeds: seeds of sibling experiments (`beside`), and gaps of one or two seeds (1 and 3 imply 2).

    Gaps count only if the seeds look consecutive; freely chosen seeds, such as 0 and 42, or 9 beside 1 to 5, imply
    nothing.
    """
    ordered = sorted(seeds)
    consecutive = bool(ordered) and ordered[0] > 0 and ordered[-1] <= 2 * len(ordered) + 3
    gaps = [range(low + 1, high) for low, high in pairwise(ordered) if high - low <= 3] if consecutive else []
    return sorted({*beside, *chain(*gaps)} - set(seeds))


def _seeds_beside(folder: Path, known: dict[Path, set[int]]) -> set[int]:
    """Seeds of all sibling folders. `known` keeps the answers, because many experiments have the same siblings."""
    if seed_of_name(folder.name) is not None or not folder.parent.is_dir():
        return set()
    if folder.parent not in known:
        siblings = _subfolders(folder.parent)
        known[folder.parent] = {seed_of_name(path.name) for each in siblings for path in _seed_folders(each)}
    return known[folder.parent]


def _experiment(
    folder: Path, label: str, run_folders: list[Path], test_log: bool, seeds: Seeds, known: dict | None = None
) -> Experiment:
    runs = [read_run(path, test_log) for path in run_folders]
    found = [seed_of_name(path.name) for path in run_folders]
    remarks = []
    if seeds is not None and (more := [f"seed {seed}" for seed in found if seed is not None and seed not in seeds]):
        remarks.append(f"not among the expected seeds, but part of the mean: {', '.join(more)}")
    known = {} if known is None else known
    return Experiment(folder, label, runs, _missing(found, runs, folder, seeds, known), remarks)


def _missing(there: list[int | None], runs: list[Run], folder: Path, seeds: Seeds, known: dict) -> list[int]:
    """Missing seeds of the experiment in `folder`; [] if a run has no seed in its name.

    Without given `seeds`, none are expected of zero-shot CLIP, whose result does not depend on the seed.
    """
    if None in there:
        return []
    if seeds is not None:
        return [seed for seed in seeds if seed not in there]
    finished = [run for run in runs if run.finished]
    if finished and all(run.zero_shot for run in finished):
        return []
    return missing_seeds(there, _seeds_beside(folder, known))


def check_folder(folder: Path) -> None:
    if not folder.exists():
        raise ReportError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise ReportError(f"not a folder: {folder}; give the folder that holds seed1, seed2, ...")


def load_experiment(folder: Path, label: str = "", test_log: bool = False, seeds: Seeds = None) -> Experiment:
    """The experiment in a folder.

    Its runs are, in this order: the seed folders; the folder itself if it is a run; runs of single tasks of a suite; or
    runs with other names. A path that ends in "task*" selects the runs of single tasks, "seed*" the runs of all tasks.

    Raises:
        ReportError: no such folder, no runs in it, or runs that are not seeds of one experiment.
    """
    folder = Path(folder)
    by_task, by_seed = folder.name == "task*", folder.name == "seed*"
    label = label or str(folder)
    if by_task or by_seed:
        folder = folder.parent
    check_folder(folder)
    seed_folders = [] if by_task else _seed_folders(folder)
    if by_seed and not seed_folders:
        raise ReportError(f"no seed1, seed2, ... in {folder}")
    if seed_folders and (by_seed or not any(place(Path(path.name), False) for path in _subfolders(folder))):
        experiment = _experiment(folder, label, seed_folders, test_log, seeds)
        if is_run(folder):
            experiment.remarks.append(f"left out: the run in {folder} itself; --multi-exp shows both")
        return experiment
    below = find_experiments(folder, test_log, seeds)
    if is_run(folder):
        experiment = _experiment(folder, label, [folder], test_log, None)
        if others := [other for other in below if other.folder != folder]:
            text = f"left out: what lies below the run, such as {others[0].folder}; --multi-exp shows it"
            experiment.remarks.append(text)
        return experiment
    joined = [experiment for experiment in below if "*" in experiment.label]
    if len(joined) == 1 and (by_task or len(below) == 1):
        joined[0].label = label
        return joined[0]
    if seed_folders:
        raise ReportError(
            f"{folder} holds runs of all tasks at once ({seed_folders[0].name}) and runs of single tasks: use "
            f"--multi-exp for both, or {folder / 'task*'} (quoted) for the latter"
        )
    others = [path for path in _subfolders(folder) if is_run(path)]
    if not others or by_task:
        text = f"no runs in {folder}: looked for seed1, seed2, ... and for results.json or log.txt in it"
        if below:
            more = f" and {len(below) - 1} more" if len(below) > 1 else ""
            text += f"\nfurther down is {below[0].folder}{more}: use --multi-exp"
        raise ReportError(text)
    experiment = _experiment(folder, label, others, test_log, None)
    kinds = {
        (*(str(run.settings.get(name)) for name in SETTINGS), *((task.id, task.name) for task in run.tasks))
        for run in experiment.finished
    }
    drawn = [run.seed for run in experiment.finished if run.seed is not None]
    if len(kinds) > 1 or len(set(drawn)) < len(drawn):
        raise ReportError(
            f"the runs in {folder} ({', '.join(path.name for path in others[:4])}, ...) "
            "are not seeds of one experiment: use --multi-exp"
        )
    if left := [other for other in below if not {run.folder for run in other.runs} <= set(others)]:
        experiment.remarks.append(f"left out: what lies further down, such as {left[0].folder}; --multi-exp shows it")
    return experiment


def find_experiments(root: Path, test_log: bool = False, seeds: Seeds = None) -> list[Experiment]:
    """Every experiment below a folder, in natural order.

    A run outside a seed folder is an experiment of its own; its label ends in "/." if the folder has seeds as well.
    Experiments that differ only in the number of the task are joined, with a * for the number in the label.
    """
    root = Path(root)
    check_folder(root)
    found: list[Experiment] = []
    seen: set[str] = set()
    known: dict[Path, set[int]] = {}

    def walk(folder: Path) -> None:
        real = os.path.realpath(folder)
        if real in seen:  # links may form circles
            return
        seen.add(real)
        label = str(folder.relative_to(root)) if folder != root else folder.name or str(folder)
        seed_folders = _seed_folders(folder)
        if is_run(folder):
            found.append(_experiment(folder, f"{label}/." if seed_folders else label, [folder], test_log, None))
        if seed_folders:
            found.append(_experiment(folder, label, seed_folders, test_log, seeds, known))
        for path in _subfolders(folder):
            for inner in _subfolders(path) if path in seed_folders else [path]:
                walk(inner)

    walk(root)
    return _joined(found, root, seeds)


def _joined(experiments: list[Experiment], root: Path, seeds: Seeds) -> list[Experiment]:
    """The experiments, where two or more of single tasks are joined at the position of the first."""
    groups: dict[str, dict[int, Experiment]] = {}
    group_of: dict[int, str] = {}
    for experiment in experiments:
        alone = [run.folder for run in experiment.runs] == [experiment.folder]
        if found := place(experiment.folder.relative_to(root), alone):
            groups.setdefault(found[0], {})[found[1]] = experiment
            group_of[id(experiment)] = found[0]
    groups = {label: parts for label, parts in groups.items() if len(parts) > 1 and _are_tasks(label, parts)}
    made: dict[str, Experiment] = {}
    result = []
    for experiment in experiments:
        label = group_of.get(id(experiment), "")
        if label not in groups:
            result.append(experiment)
        elif label not in made:
            made[label] = _join_experiments(root / label, label, groups[label], seeds)
            result.append(made[label])
    return result


def _are_tasks(label: str, parts: dict[int, Experiment]) -> bool:
    """Whether the parts are runs of single tasks. Folders task0, task1, ... are; NAME-0, NAME-1, ... record it."""
    if not label.endswith("-*"):
        return True
    finished = {number: run for number, part in parts.items() for run in part.finished}
    return bool(finished) and all(run.settings.get("subsample_tasks") == f"task{n}" for n, run in finished.items())


def _join_experiments(folder: Path, label: str, parts: dict[int, Experiment], seeds: Seeds) -> Experiment:
    runs: dict[tuple, dict[int, Run]] = {}
    for number, part in parts.items():
        for run in part.runs:
            seeded = seed_of_name(run.folder.name) is not None
            runs.setdefault((run.seed, run.label) if seeded else (None, folder.name), {})[number] = run
    ordered = sorted(runs, key=lambda key: (key[0] is None, key))
    joined = [join(name, seed, folder, runs[seed, name], sorted(parts)) for seed, name in ordered]
    missing = _missing([seed for seed, _ in ordered], joined, folder, seeds, {})
    return Experiment(folder, label, joined, missing)
