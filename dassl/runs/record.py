"""What a run has written about itself: the names of its files, and how they are read. Imports no PyTorch.

results.json is the result for programs, config.yaml the resolved settings, tasks.json the tasks with their class names.
Readers accept the files of every earlier version, and without results.json a log in the published format.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dassl.runs.logs import final_test_block

RESULTS, CONFIG, TASKS, CMAT = "results.json", "config.yaml", "tasks.json", "cmat.pt"
RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"  # values of "status"
SETTINGS = ("trainer", "suite", "protocol", "subsample_tasks", "shots", "epochs", "backbone", "precision", "split")
STANDARD_METRICS = ("overall_acc", "mean_acc", "macro_f1")  # in the results of every version
# names under which numbers are known elsewhere -> their name here
ALIASES = {"metric": "overall_metric", "value": "overall_metric", "accuracy": "overall_acc", "error": "error_rate"}


# ---- files -----------------------------------------------------------------------------------------------------------


def has_config(folder):
    """Whether `folder` has a config.yaml, as every run that has begun."""
    return os.path.isfile(os.path.join(folder, CONFIG))


def log_files(folder):
    """log.txt and log.txt-<time> in `folder`, the newest first, as list[Path].

    The time in the name decides, because copying a folder often changes the time of a file. log.txt is the oldest.
    """
    found = [path for path in Path(folder).glob("log.txt*") if re.fullmatch(r"log\.txt(-[\d-]+)?", path.name)]
    return sorted(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)], reverse=True)


def is_run(folder):
    """Whether `folder` is the folder of a run: it has a results.json or a log."""
    return os.path.isfile(os.path.join(folder, RESULTS)) or bool(log_files(folder))


def seed_of_name(name):
    """3 for "seed3", "seed_3" and "seed-3"; None for other names of folders."""
    match = re.fullmatch(r"seed[-_]?(\d+)", name)
    return int(match[1]) if match else None


def read_results(folder):
    """The content of results.json, or None if there is no such file.

    Raises:
        ValueError: the file cannot be read or is not a JSON object.
    """
    try:
        with open(os.path.join(folder, RESULTS), encoding="utf-8") as stream:
            data = json.load(stream)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{RESULTS} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{RESULTS} is not a JSON object")
    return data


def known_results(folder):
    """The content of results.json, or {} if it is missing or cannot be read."""
    try:
        return read_results(folder) or {}
    except ValueError:
        return {}


def read_config(folder):
    """The recorded settings as nested dicts, or {} if there is no config.yaml.

    Raises:
        yaml.YAMLError: the file is not YAML.
    """
    try:
        with open(os.path.join(folder, CONFIG), encoding="utf-8") as stream:
            return yaml.safe_load(stream) or {}
    except FileNotFoundError:
        return {}


def read_tasks(folder):
    """The content of tasks.json, or None if there is no such file, as in runs of early versions.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        with open(os.path.join(folder, TASKS), encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return None


# ---- single entries --------------------------------------------------------------------------------------------------


def is_complete(folder):
    """Whether the run in `folder` is finished, by its results.json."""
    return known_results(folder).get("status") == COMPLETE


def hash_of(folder, what):
    """Recorded hash of the run's "config", "split" or "weights"; None if it is not known."""
    return (known_results(folder).get("hashes") or {}).get(what)


def command_of(folder):
    """The words of the command that made the run; [] if they are not known."""
    return [str(word) for word in known_results(folder).get("command") or []]


def error_of(folder):
    """First line of the error that stopped a failed run, or why results.json cannot be read; "" for other runs."""
    try:
        data = read_results(folder) or {}
    except ValueError as error:
        return str(error)
    return _first_line(data["error"]) if data.get("status") == "failed" and data.get("error") else ""


def last_epoch(folder):
    """Number of the last epoch of a finished training run, by its results, its settings or its checkpoints.

    Raises:
        ValueError: the run is not finished, or nothing tells its epochs.
    """
    run = read_run(folder)
    if not run.finished:
        raise ValueError(f"no finished training run in {folder}: {run.problem}")
    known = known_results(folder).get("epochs"), read_config(folder).get("OPTIM", {}).get("MAX_EPOCH")
    saved = [re.fullmatch(r"model\.pth\.tar-(\d+)", path.name) for path in Path(folder).glob("*/model.pth.tar-*")]
    epochs = [epoch for epoch in known if isinstance(epoch, int)]
    epochs += sorted((int(match[1]) for match in saved if match), reverse=True)
    if not epochs:
        raise ValueError(f"cannot tell the last epoch of {folder}: no epochs in {RESULTS}, no MAX_EPOCH in {CONFIG}")
    return epochs[0]


def _first_line(text):
    return str(text).strip().splitlines()[0]


# ---- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskResult:
    """Numbers of one task.

    Attributes:
        id: number of the task in its full suite.
        metric: the metric that the task declares; "" where a log does not say it.
        numbers: {metric: value or None}, in per cent; "overall_metric" is the declared metric.
    """

    id: int
    name: str
    images: int | None
    metric: str
    numbers: dict[str, float | None]
    key: str = ""


@dataclass(frozen=True)
class Run:
    """The result of a run folder; `numbers` and `tasks` are empty unless `finished`.

    Attributes:
        label: "seed1", else the folder's name.
        problem: why the run is not finished.
        source: name of the file that the numbers come from.
        numbers: {metric: mean over the tasks, or None}, in per cent; "overall_metric" is that of the declared metrics.
        settings: {name in SETTINGS: value or None}.
        costs: the known values of "parameters", "train" and "test" in seconds, and "memory" in bytes.
        suite_tasks: keys of all tasks of the suite; () if not known.
    """

    folder: Path
    label: str
    seed: int | None
    finished: bool
    problem: str = ""
    source: str = ""
    numbers: dict[str, float | None] = field(default_factory=dict)
    tasks: tuple[TaskResult, ...] = ()
    settings: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    costs: dict[str, float] = field(default_factory=dict)
    suite_tasks: tuple[str, ...] = ()


def canonical(name):
    """The name of a metric, given under a name of other programs or its own."""
    return ALIASES.get(name, name)


def read_run(folder, test_log=False):
    """The `Run` of a folder, from its results.json, else from its newest log with a final test result.

    Args:
        folder: any folder.
        test_log: logs may be of runs that only tested.
    """
    folder = Path(folder)
    try:
        data = read_results(folder)
    except ValueError as error:
        return _unfinished(folder, str(error))
    return _from_logs(folder, test_log) if data is None else _from_results(folder, data)


def _unfinished(folder, problem):
    return Run(folder, _label(folder), seed_of_name(folder.name), False, problem)


def _label(folder):
    return folder.name or str(folder)


def _from_results(folder, data):
    status, label, seed = data.get("status"), _label(folder), seed_of_name(folder.name)
    if status != COMPLETE:
        return _unfinished(
            folder, f"{RESULTS} says {status!r}" + (f": {_first_line(data['error'])}" if data.get("error") else "")
        )
    try:
        mean = data["mean"]
        metrics = dict.fromkeys((*STANDARD_METRICS, *mean))
        del metrics["value"]
        numbers = {"overall_metric": mean["value"], **{name: mean.get(name) for name in metrics}}
        tasks = tuple(
            TaskResult(
                id=int(task["id"]),
                name=str(task["name"]),
                images=task.get("images"),
                metric=task.get("metric") or "",
                numbers={"overall_metric": task["value"], **{name: task.get(name) for name in metrics}},
                key=str(task.get("key") or ""),
            )
            for task in data["tasks"]
        )
    except (KeyError, TypeError, ValueError) as error:
        return _unfinished(folder, f"{RESULTS} is not as expected: {type(error).__name__} {error}")
    notes, recorded = (), data.get("seed")
    if seed is None:
        seed = recorded
    elif recorded is not None and recorded != seed:
        notes = (f"{label}: its {RESULTS} is of seed {recorded}",)
    return Run(
        folder,
        label,
        seed,
        True,
        source=RESULTS,
        numbers=numbers,
        tasks=tasks,
        settings={name: data.get(name) for name in SETTINGS},
        notes=notes,
        costs=_costs(data),
        suite_tasks=tuple(map(str, data.get("suite_tasks") or ())),
    )


def _costs(data):
    seconds = data.get("seconds") or {}
    found = {
        "parameters": data.get("learnable_parameters"),
        "train": seconds.get("train"),
        "test": seconds.get("test"),
        "memory": data.get("peak_memory_bytes"),
    }
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}


def _from_logs(folder, test_log):
    label, problems = _label(folder), []
    for path in log_files(folder):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                block, problem = final_test_block(file, test_log)
        except OSError as error:
            block, problem = None, str(error)
        if block is None:
            problems.append(f"{path.name}: {problem}")
            continue
        numbers = {canonical(name): value for name, value in block.numbers.items()}
        numbers.setdefault("overall_metric", numbers.get("overall_acc"))
        tasks = tuple(
            TaskResult(id_, name, images, "", {canonical(key): value for key, value in values.items()})
            for id_, name, images, values in block.tasks
        )
        notes = tuple(f"{label}: read from {path.name}, newer but unfinished is {text}" for text in problems)
        seed = seed_of_name(folder.name)
        return Run(folder, label, seed, True, source=path.name, numbers=numbers, tasks=tasks, notes=notes)
    return _unfinished(folder, "; ".join(problems) or f"neither {RESULTS} nor log.txt")
