"""One tidy pandas table of all runs: every table, page and export of this project starts from it."""

import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

import pandas as pd

from dassl.runs.folder import going_on
from dassl.runs.record import INTERRUPTED, RUNNING, entries, known_results, read_tasks
from dassl.runs.results import Run
from dassl.utils.errors import UserError
from reporting.experiments import Experiment, find_experiments

TEXT, WHOLE, NUMBER, TRUTH = "str", "Int64", "float64", "bool"
OF_RUN = (
    "path", "experiment", "run", "trainer", "method", "suite", "protocol", "classes", "source_suite", "backbone",
    "config", "shots", "seed", "split", "subsample_tasks", "epochs", "precision",
)  # fmt: skip
OF_RUN = dict.fromkeys(OF_RUN, TEXT) | dict.fromkeys(("shots", "seed", "epochs"), WHOLE)
OF_VALUE = {
    "task_id": WHOLE,
    "task": TEXT,
    "task_key": TEXT,
    "images": WHOLE,
    "metric": "object",  # text, or None of a run that has not finished
    "declared": TEXT,
    "value": NUMBER,
}
MORE_OF_RUN = {
    "chosen_on": TEXT,
    "parameters": WHOLE,
    "train_seconds": NUMBER,
    "test_seconds": NUMBER,
    "memory_bytes": WHOLE,
    "config_hash": TEXT,
    "split_hash": TEXT,
    "weights_hash": TEXT,
    "fewshot_hash": TEXT,
    "status": TEXT,
    "problem": TEXT,
    "version": TEXT,
    "command": TEXT,
    "joined": TRUTH,
}
TEXTS = ("trainer", "method", "suite", "backbone", "subsample_tasks", "precision")  # as recorded
COLUMNS = OF_RUN | OF_VALUE | MORE_OF_RUN  # {column: type} in the order of the frame


def read_frame(folders: Sequence[str | os.PathLike], test_logs: bool = False) -> pd.DataFrame:
    """All runs below `folders` as one table, with a row per run, task and metric. docs/outputs.md lists the columns.

    `task_id` is missing in the rows with the mean over the tasks. A run that has not finished is one row without metric
    and value. Runs of single tasks are joined to their suite: the rows of the tasks are of their own runs, and the mean
    is there if every task of the suite has a finished run. A run that several folders contain is read once.

    Args:
        test_logs: read logs of runs that only tested.

    Raises:
        UserError: a folder does not exist, or there is no run in any of them.
    """
    folders, found, seen = [Path(folder) for folder in folders], [], set()
    for folder in folders:
        for experiment in find_experiments(folder, test_logs):
            single = [run for whole in experiment.runs for run in whole.parts.values() or [whole]]
            paths = {os.path.realpath(run.folder) for run in single}
            if not paths <= seen:
                label = _label(experiment, folder)
                found.append((str(folder / label) if len(folders) > 1 else label, experiment))
            seen |= paths
    if not found:
        raise UserError(
            f"no runs in {', '.join(map(str, folders))}: looked for results.json and log.txt, also in the folders below"
        )
    return frame_of(found)


def _label(experiment: Experiment, root: Path) -> str:
    """The label of an experiment below `root`; a folder seed1 that is given itself belongs to the folder above it."""
    alone = experiment.folder == root and [run.folder for run in experiment.runs] == [root]
    return root.absolute().parent.name if alone and experiment.runs[0].label.startswith("seed") else experiment.label


def frame_of(experiments: Sequence[tuple[str, Experiment]]) -> pd.DataFrame:
    """The frame of (label, experiment) pairs."""
    runs, values, owners = [], [], []  # `owners`: for each row of `values` the position of its run in `runs`
    for label, experiment in experiments:
        for whole in experiment.runs:
            for number, run in ((None, whole), *whole.parts.items()):
                if run.finished:
                    rows = [] if run.parts else _task_rows(run)
                    rows += _mean_rows(run) if run is whole else []
                else:
                    rows = [] if run.parts else [(_whole(number), "", "", None, None, "", None)]
                runs.append(_of_run(run, label, whole))
                values += rows
                owners += [len(runs) - 1] * len(rows)
    about = pd.DataFrame(runs, columns=[*OF_RUN, *MORE_OF_RUN], dtype=object).astype(OF_RUN | MORE_OF_RUN)
    measured = pd.DataFrame(values, columns=list(OF_VALUE), dtype=object).astype(OF_VALUE)
    return pd.concat([about.iloc[owners].reset_index(drop=True), measured], axis=1)[list(COLUMNS)]


def _mean_rows(run: Run) -> list[tuple]:
    declared = {task.metric for task in run.tasks}
    name = declared.pop() if len(declared) == 1 else ""
    images = [task.images for task in run.tasks]
    total = sum(images) if images and None not in images else None
    return [(None, "", "", total, *row) for row in _numbers(run.numbers, name)]


def _task_rows(run: Run) -> list[tuple]:
    return [
        (_whole(task.id), task.name, task.key, _whole(task.images), *row)
        for task in run.tasks
        for row in _numbers(task.numbers, task.metric)
    ]


def _numbers(numbers: dict, declared: str) -> list[tuple]:
    """(metric, name of the declared metric, value) of what was measured, and of the declared metric in any case."""
    known = {name: value for name, value in numbers.items() if value is not None or name == "overall_metric"}
    return [(name, declared, value) for name, value in known.items()]


def _of_run(run: Run, label: str, whole: Run) -> dict:
    """The columns of a run: `whole` is the run itself, or the one that it is joined to."""
    settings, record = run.settings, run.record
    hashes = entries(record, "hashes")
    classes, status = settings.get("protocol"), run.status
    if status == RUNNING and not going_on(run.folder):
        status = INTERRUPTED  # it was killed
    shots = _whole(settings.get("shots"))
    if shots is not None and shots < 1:  # 0 and -1 are all images, or none
        shots = None if run.zero_shot else -1
    protocol, source = _protocol(run, classes)
    costs, seeds = run.costs, [each.seed for each in (run, whole, *run.parts.values()) if each.seed is not None]
    return {
        "path": str(run.folder / run.label) if run.parts and run.folder.name != run.label else str(run.folder),
        "experiment": label,
        "run": whole.label,
        **{name: _text(settings.get(name)) for name in TEXTS},
        "suite": _suite(record, settings.get("suite")),
        "protocol": protocol,
        "classes": classes if classes in ("base", "new") else "all",
        "source_suite": source,
        "config": run.config,
        "shots": shots,
        "seed": _whole(next(iter(seeds), None)),
        "split": _text(settings.get("split")) or "test",
        "epochs": _whole(settings.get("epochs")),
        "chosen_on": "test" if run.chosen_on_test else "val" if record.get("chosen") else "",
        "parameters": _whole(costs.get("parameters")),
        "train_seconds": costs.get("train"),
        "test_seconds": costs.get("test"),
        "memory_bytes": _whole(costs.get("memory")),
        **{f"{name}_hash": _text(hashes.get(name)) for name in ("config", "split", "weights")},
        "fewshot_hash": _text(entries(record, "fewshot_split").get("sha256")),
        "status": status,
        "problem": run.problem,
        "version": _version(record),
        "command": shlex.join(map(str, words)) if isinstance(words := record.get("command"), list) else "",
        "joined": bool(whole.parts),
    }


def _suite(record: dict, name) -> str:
    """The name of the suite. Users' own data, which all have the name Suite, are called by their file."""
    files = record.get("config_files")
    own = name == "Suite" and isinstance(files, list) and len(files) > 1
    return PurePath(str(files[0])).stem if own else _text(name)


def _protocol(run: Run, classes) -> tuple[str, str]:
    """(protocol, suite on which the tested model was trained if it is another one, else "")."""
    if classes in ("base", "new"):
        return "base-to-new", ""
    place = entries(run.record, "tested_model").get("folder")
    if not isinstance(place, str):
        return "few-shot", ""
    trained = known_results(run.folder / place)
    suite = _suite(trained, trained.get("suite"))
    if suite in ("", _suite(run.record, run.settings.get("suite"))):
        return "few-shot", ""
    return ("domain-shift" if _shifted(run, trained) else "cross-dataset"), suite


def _shifted(run: Run, trained: dict) -> bool:
    """Whether all tasks of a run are shifted test sets of the tasks that its model was trained on."""
    there = trained.get("tasks") if isinstance(trained.get("tasks"), list) else []
    keys = {task.get("key") for task in there if isinstance(task, dict)}
    try:
        known = {task.get("key"): task.get("task_of") for task in read_tasks(run.folder) or []}
    except (UserError, TypeError):
        known = {}
    return bool(run.tasks) and all(known.get(task.key) or task.key in keys for task in run.tasks)


def _version(record: dict) -> str:
    """Versions that influence numbers, in words: "commit 0123456789, torch 2.14.1, ..."; "" if none is recorded."""
    known = {"commit": _text(record.get("git_commit"))[:10]}
    known |= {name: _text(value) for name, value in entries(record, "versions").items() if name != "platform"}
    return ", ".join(f"{name} {value}" for name, value in known.items() if value)


def _text(value) -> str:
    return "" if value is None else str(value)


def _whole(value) -> int | None:
    """The value as a whole number of 64 bits, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value) if abs(value) < 2**63 else None
