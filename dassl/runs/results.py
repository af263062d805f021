"""The result of a run, read from its results.json or from a log in the published format. Imports no PyTorch."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from dassl.runs.log_settings import LONGEST_LINE, config_of_folder, log_settings
from dassl.runs.logs import final_test_block
from dassl.runs.record import (
    COMPLETE,
    CONFIG,
    FAILED,
    INTERRUPTED,
    RESULTS,
    RUNNING,
    UNREADABLE,
    entries,
    first_line,
    log_files,
    read_config,
    read_results,
    seed_of_name,
)
from dassl.utils.methods import method_name
from dassl.utils.tools import open_file

SETTINGS = (  # by which runs are told apart
    "trainer", "method", "suite", "protocol", "subsample_tasks", "shots", "epochs", "backbone", "precision", "split",
)  # fmt: skip
STANDARD_METRICS = ("overall_acc", "mean_acc", "macro_f1")  # in the results of every version
# of the probabilities; tables show them with --keyword only
CONFIDENCE_METRICS = ("top5_acc", "ece", "nll", "ece_scaled", "nll_scaled", "auroc_unknown")
# names under which numbers are known elsewhere -> their name here
ALIASES = {"metric": "overall_metric", "value": "overall_metric", "accuracy": "overall_acc", "error": "error_rate"}


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
        status: as recorded; INTERRUPTED for a log without a final test result, UNREADABLE for damaged or missing files.
        label: "seed1", else the folder's name.
        problem: why the run is not finished.
        source: name of the file that the numbers come from.
        numbers: {metric: mean over the tasks, or None}, in per cent; "overall_metric" is that of the declared metrics.
        settings: {name in SETTINGS: value or None}; "method" is the name to show.
        overrides: {key: value} of the settings that differ from the run's configuration files.
        costs: the known values of "parameters", "train" and "test" in seconds, and "memory" in bytes.
        suite_tasks: keys of all tasks of the suite; () if not known.
        chosen_on_test: whether the images of the test chose settings of the method, as some papers do.
        config: name of the configuration file; "" if not known.
        record: the content of results.json; {} if there is none or it cannot be read.
        parts: {number: run} of the runs of single tasks, if this is a joined run.
    """

    folder: Path
    label: str
    seed: int | None
    status: str
    problem: str = ""
    source: str = ""
    numbers: dict[str, float | None] = field(default_factory=dict)
    tasks: tuple[TaskResult, ...] = ()
    settings: dict = field(default_factory=dict)
    overrides: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    costs: dict[str, float] = field(default_factory=dict)
    suite_tasks: tuple[str, ...] = ()
    chosen_on_test: bool = False
    config: str = ""
    record: dict = field(default_factory=dict, repr=False)
    parts: dict = field(default_factory=dict, repr=False)

    @property
    def finished(self) -> bool:
        return self.status == COMPLETE

    @property
    def zero_shot(self) -> bool:
        """Whether the run is of zero-shot CLIP, which learns nothing and uses no training images."""
        shots = self.settings.get("shots")
        untrained = not self.costs.get("parameters") and self.settings.get("epochs") in (0, None)
        return untrained and isinstance(shots, (int, float)) and shots < 1  # -1: all images, or none


def canonical(name):
    """The name of a metric, given under a name of other programs or its own."""
    return ALIASES.get(name, name)


def read_run(folder, test_log=False):
    """The `Run` of a folder, from its results.json, else from its newest log with a final test result.

    Whatever the files contain, the result is a Run: one that cannot be read is unfinished, and its problem says why.

    Args:
        folder: any folder.
        test_log: logs may be of runs that only tested.
    """
    folder, odd = Path(folder), []
    try:
        data = read_results(folder, odd)
    except ValueError as error:
        return _unfinished(folder, str(error), UNREADABLE)
    if data is None:
        return _from_logs(folder, test_log)
    notes = (f"{_label(folder)}: {RESULTS} contains {odd[0]}, which counts as no value",) if odd else ()
    return _from_results(folder, data, notes)


def last_epoch(folder):
    """Number of the last epoch of a finished training run, by its results, its settings or its checkpoints.

    Raises:
        ValueError: the run is not finished, or nothing tells its epochs.
    """
    run = read_run(folder)
    if not run.finished:
        raise ValueError(f"no finished training run in {folder}: {run.problem}")
    known = run.record.get("epochs"), entries(read_config(folder), "OPTIM").get("MAX_EPOCH")
    saved = [re.fullmatch(r"model\.pth\.tar-(\d+)", path.name) for path in Path(folder).glob("*/model.pth.tar-*")]
    epochs = [epoch for epoch in known if _is_count(epoch)]
    epochs += sorted((int(match[1]) for match in saved if match), reverse=True)
    if not epochs:
        raise ValueError(f"cannot tell the last epoch of {folder}: no epochs in {RESULTS}, no MAX_EPOCH in {CONFIG}")
    return epochs[0]


def _unfinished(folder, problem, status, data=None):
    """A run without numbers. What `data`, or else a log and the names of the folders, tell about it is kept."""
    seed = seed_of_name(folder.name)
    if data:
        about, recorded, config = _settings(folder, data), data.get("seed"), _config(folder, data)
    else:
        about, recorded, config = log_settings(next(iter(log_files(folder)), None), folder)
    seed = recorded if seed is None and _is_count(recorded) else seed
    more = {"settings": about, "config": config, "record": data or {}}
    return Run(folder, _label(folder), seed, status, problem, **more)


def _settings(folder, data):
    """{name in SETTINGS: value or None} of the content of a results.json."""
    known = {**data, "method": _method(folder, data)}
    plain = (str, int, float, type(None))
    return {name: v if isinstance(v := known.get(name), plain) else str(v)[:100] for name in SETTINGS}


def _config(folder, data):
    """Name of the configuration file of a run: the last one that is not the file of a dataset."""
    files = data.get("config_files")
    paths = [Path(file) for file in files if isinstance(file, str)] if isinstance(files, list) else []
    names = [path.stem for path in paths if path.parent.name != "datasets"]
    return names[-1] if names else config_of_folder(folder)


def _label(folder):
    return folder.name or str(folder)


def _from_results(folder, data, notes):
    status, label, seed = data.get("status"), _label(folder), seed_of_name(folder.name)
    if status != COMPLETE:
        text = f"{RESULTS} says {str(status)[:40]!r}"
        known = status if status in (RUNNING, INTERRUPTED, FAILED) else UNREADABLE
        return _unfinished(folder, ": ".join(filter(None, (text, first_line(data.get("error"))))), known, data)
    try:
        mean = _entry(data, "mean", dict)
        metrics = dict.fromkeys((*STANDARD_METRICS, *mean))
        del metrics["value"]
        tasks = tuple(_task_of(task, metrics) for task in _entry(data, "tasks", list))
        recorded = data.get("seed")
        if recorded is not None and not (isinstance(recorded, int) and abs(recorded) < 2**64):
            raise ValueError(f"seed is {str(recorded)[:40]!r}, expected a whole number")
        numbers = _numbers_of(mean, metrics)
    except (KeyError, ValueError) as error:
        missing = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        return _unfinished(folder, f"{RESULTS} is not as expected: {missing}", UNREADABLE, data)
    if seed is None:
        seed = recorded
    elif recorded is not None and recorded != seed:
        notes = (*notes, f"{label}: its {RESULTS} is of seed {recorded}")
    suite, chosen = data.get("suite_tasks"), entries(data, "chosen")
    return Run(
        folder,
        label,
        seed,
        COMPLETE,
        source=RESULTS,
        numbers=numbers,
        tasks=tasks,
        settings=_settings(folder, data),
        overrides={str(key): str(value)[:100] for key, value in entries(data, "overrides").items()},
        notes=notes,
        costs=_costs(data),
        suite_tasks=tuple(map(str, suite)) if isinstance(suite, list) else (),
        chosen_on_test=any(entries(chosen, name).get("chosen_on") == "test" for name in chosen),
        config=_config(folder, data),
        record=data,
    )


def _entry(data, name, kind):
    """The entry `name` of a dict, of the type `kind`. Raises KeyError, ValueError."""
    value = data[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name} is of type {type(value).__name__}, expected {kind.__name__}")
    return value


def _task_of(data, metrics):
    if not isinstance(data, dict):
        raise ValueError(f"a task is of type {type(data).__name__}, expected dict")
    images = data.get("images")
    for name, value in (("id", data["id"]), ("images", 0 if images is None else images)):
        if not _is_count(value):
            raise ValueError(f"the {name} of a task is {str(value)[:40]!r}, expected a whole number")
    return TaskResult(
        id=data["id"],
        name=str(data["name"]),
        images=images,
        metric=str(data.get("metric") or ""),
        numbers=_numbers_of(data, metrics),
        key=str(data.get("key") or ""),
    )


def _numbers_of(data, metrics):
    """{metric: value or None}, "overall_metric" first. Raises KeyError, ValueError."""
    found = {"overall_metric": data["value"], **{name: data.get(name) for name in metrics}}
    for name, value in found.items():
        if value is not None and not _is_number(value):
            raise ValueError(f"{name} is {str(value)[:40]!r}, expected a number")
    return found


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63


def _method(folder, data):
    """The name of the method; runs of early versions have recorded their trainer and their settings."""
    if isinstance(data.get("method"), str):
        return data["method"]
    try:
        return method_name(read_config(folder)) or data.get("trainer")
    except (OSError, ValueError):  # among them UserError of a damaged file
        return data.get("trainer")


def _costs(data):
    seconds = entries(data, "seconds")
    found = {
        "parameters": data.get("learnable_parameters"),
        "train": seconds.get("train"),
        "test": seconds.get("test"),
        "memory": data.get("peak_memory_bytes"),
    }
    return {name: value for name, value in found.items() if _is_number(value)}


def _from_logs(folder, test_log):
    label, problems = _label(folder), []
    for path in log_files(folder):
        try:
            with open_file(path, encoding="utf-8", errors="replace") as file:
                lines = iter(lambda file=file: file.readline(LONGEST_LINE), "")
                block, problem = final_test_block(lines, test_log)
        except OSError as error:
            block, problem = None, error.strerror or str(error)
        except ValueError as error:  # not a file; a number of thousands of digits
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
        for task in tasks:  # e.g. of a line with "acc: 67.12%"
            task.numbers.setdefault("overall_metric", next(iter(task.numbers.values()), None))
        notes = tuple(f"{label}: read from {path.name}, newer but unfinished is {text}" for text in problems)
        settings, recorded, config = log_settings(path, folder)
        seed = recorded if (seed := seed_of_name(folder.name)) is None else seed
        known = {"numbers": numbers, "tasks": tasks, "settings": settings, "notes": notes, "config": config}
        return Run(folder, label, seed, COMPLETE, source=path.name, **known)
    status = INTERRUPTED if problems else UNREADABLE
    return _unfinished(folder, "; ".join(problems) or f"neither {RESULTS} nor log.txt", status)
