"""Join runs of single tasks to runs of their suite.

A method that learns each task separately has a folder per task, `.../task3/seed1`, or for zero-shot CLIP a run per
task, `.../plant6-3`. Paths that differ only in the number of the task belong together.
"""

import re
import statistics
from pathlib import PurePath

from dassl.runs.record import COMPLETE
from dassl.runs.results import SETTINGS, Run

TASK_FOLDER = re.compile(r"task[-_]?(\d+)")
TASK_RUN = re.compile(r"(.+)-(\d+)")  # zero-shot CLIP: DATASET-TASKID


def place(path: PurePath, is_run: bool) -> tuple[str, int] | None:
    """(path with a * for the number of the task, the number), or None if the path contains no task.

    `is_run`: whether the path is the path of a run rather than of a folder of seeds.
    """
    for position in reversed(range(len(path.parts))):
        if match := TASK_FOLDER.fullmatch(path.parts[position]):
            parts = [*path.parts[:position], "task*", *path.parts[position + 1 :]]
            return str(PurePath(*parts)), int(match[1])
    if is_run and (match := TASK_RUN.fullmatch(path.name)):
        return str(path.parent / f"{match[1]}-*"), int(match[2])
    return None


def join(label: str, seed: int | None, folder, runs: dict[int, Run], numbers: list[int]) -> Run:
    """Join runs of single tasks to one run of the suite.

    Args:
        runs: {number of the task: run}; tasks without a folder are absent.
        numbers: numbers of all known tasks, used if the runs do not record the tasks of the suite.

    Returns:
        a run with overall values if every task of the suite has a finished run; else without, and with a note.
    """
    finished = {number: run for number, run in sorted(runs.items()) if run.finished}
    if not finished:
        problem = "; ".join(f"task {number}: {run.problem}" for number, run in sorted(runs.items()))
        first = runs[min(runs)]
        more = {"settings": first.settings, "config": first.config, "parts": runs}
        return Run(folder, label, seed, first.status, problem, **more)
    suites = {run.suite_tasks for run in finished.values() if run.suite_tasks}
    keys = dict(enumerate(next(iter(suites)))) if len(suites) == 1 else dict.fromkeys(numbers, "")
    tasks = {task.id: task for run in finished.values() for task in run.tasks}
    gaps = [number for number in keys if number not in finished]

    notes = [note for run in finished.values() for note in run.notes]
    if not suites:
        notes.append("which tasks the suite has is not recorded: those that are there are taken for all")
    if gaps:
        notes.append(f"{label}: no overall value without " + ", ".join(_gap(n, keys[n], runs.get(n)) for n in gaps))
    for number, run in finished.items():
        if found := [task.id for task in run.tasks if task.id != number]:
            notes.append(f"{label}: the run of task {number} has results of task {found[0]}")
    settings = {name: {str(v): v for run in finished.values() for v in [run.settings.get(name)]} for name in SETTINGS}
    settings["subsample_tasks"] = {"each by itself": "each by itself"}
    notes += [
        f"{label}: the runs of the tasks differ in {name}: {', '.join(sorted(values))}"
        for name, values in settings.items()
        if len(values) > 1
    ]
    values = {}
    if not gaps and tasks:
        for name in dict.fromkeys(name for task in tasks.values() for name in task.numbers):
            measured = [task.numbers[name] for task in tasks.values() if task.numbers.get(name) is not None]
            values[name] = statistics.fmean(measured) if measured else None
    return Run(
        folder,
        label,
        seed,
        COMPLETE,
        source=", ".join(sorted({run.source for run in finished.values()})),
        numbers=values,
        tasks=tuple(tasks[number] for number in sorted(tasks)),
        settings={name: found.popitem()[1] if len(found) == 1 else None for name, found in settings.items()},
        overrides=_shared([run.overrides for run in finished.values()]),
        notes=tuple(notes),
        costs=_costs(list(finished.values())),
        suite_tasks=next(iter(suites)) if len(suites) == 1 else (),
        chosen_on_test=any(run.chosen_on_test for run in finished.values()),
        config=config.pop() if len(config := {run.config for run in finished.values()}) == 1 else "",
        parts=runs,
    )


def _gap(number: int, key: str, run: Run | None) -> str:
    text = f"task {number}" + (f" ({key})" if key else "")
    return text if run is None else f"{text}: {run.problem}"


def _costs(runs: list[Run]) -> dict[str, float]:
    """Costs of all runs: times and parameters are summed, memory is the maximum."""
    names = set.intersection(*(set(run.costs) for run in runs))
    return {name: (max if name == "memory" else sum)(run.costs[name] for run in runs) for name in names}


def _shared(overrides: list[dict]) -> dict:
    """The overrides that all runs have."""
    return {key: value for key, value in overrides[0].items() if all(other.get(key) == value for other in overrides)}
