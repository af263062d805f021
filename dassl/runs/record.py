"""What a run has written about itself: the names of its files, and how they are read. Imports no PyTorch.

results.json is the result for programs, config.yaml the resolved settings, tasks.json the tasks with their class names.
Readers accept the files of every earlier version, and without results.json a log in the published format.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from dassl.config.files import read_yaml
from dassl.runs.log_settings import LONGEST_LINE, config_of_folder, log_settings
from dassl.runs.logs import final_test_block
from dassl.utils.errors import UserError
from dassl.utils.methods import method_name
from dassl.utils.tools import open_file, read_json

RESULTS, CONFIG, TASKS = "results.json", "config.yaml", "tasks.json"
PREDICTIONS, CMAT = "predictions.csv", "cmat.pt"
CONFUSION = "confusion.csv"  # of earlier versions
RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"  # values of "status"
UNREADABLE = "unreadable"  # status of a run whose files are missing or damaged
SETTINGS = (
    "trainer",
    "method",
    "suite",
    "protocol",
    "subsample_tasks",
    "shots",
    "epochs",
    "backbone",
    "precision",
    "split",
)
STANDARD_METRICS = ("overall_acc", "mean_acc", "macro_f1")  # in the results of every version
# of the probabilities; tables show them with --keyword only
CONFIDENCE_METRICS = ("top5_acc", "ece", "nll", "ece_scaled", "nll_scaled", "auroc_unknown")
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


def read_results(folder, odd=None):
    """The content of results.json, or None if there is no such file.

    Args:
        odd: list to which NaN and infinite numbers are appended, which are read as None.

    Raises:
        UserError: the file cannot be read or is not a JSON object.
    """
    odd = [] if odd is None else odd
    try:
        data = read_json(os.path.join(folder, RESULTS), odd)
    except FileNotFoundError:
        return None
    except UserError as error:
        raise UserError(f"{RESULTS} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{RESULTS} is not a JSON object")
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
        UserError: the file cannot be read or does not contain settings.
    """
    path = os.path.join(folder, CONFIG)
    try:
        data = read_yaml(path)
    except FileNotFoundError:
        return {}
    if not isinstance(data, (dict, type(None))):
        raise UserError(f"{path}: expected the settings of a run, found {type(data).__name__}")
    return data or {}


def read_tasks(folder):
    """The content of tasks.json, or None if there is no such file, as in runs of early versions.

    Raises:
        UserError: the file cannot be read or is not a list of tasks.
    """
    path = os.path.join(folder, TASKS)
    try:
        data = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(data, list) or not data or not all(isinstance(task, dict) for task in data):
        raise UserError(f"{path}: expected a list of tasks, as a run writes it")
    return data


# ---- single entries --------------------------------------------------------------------------------------------------


def is_complete(folder):
    """Whether the run in `folder` is finished, by its results.json."""
    return known_results(folder).get("status") == COMPLETE


def status_of(folder):
    """The recorded status, RUNNING, COMPLETE, INTERRUPTED or FAILED; "" if it is not known."""
    status = known_results(folder).get("status")
    return status if isinstance(status, str) else ""


def hash_of(folder, what):
    """Recorded hash of the run's "config", "split" or "weights"; None if it is not known."""
    hashes = known_results(folder).get("hashes")
    value = hashes.get(what) if isinstance(hashes, dict) else None
    return value if isinstance(value, str) else None


def command_of(folder):
    """The words of the command that made the run; [] if they are not known."""
    words = known_results(folder).get("command")
    return [str(word) for word in words] if isinstance(words, list) else []


def error_of(folder):
    """First line of the error that stopped a failed run, or why results.json cannot be read; "" for other runs."""
    try:
        data = read_results(folder) or {}
    except ValueError as error:
        return str(error)
    return _first_line(data.get("error")) if data.get("status") == FAILED else ""


def last_epoch(folder):
    """Number of the last epoch of a finished training run, by its results, its settings or its checkpoints.

    Raises:
        ValueError: the run is not finished, or nothing tells its epochs.
    """
    run = read_run(folder)
    if not run.finished:
        raise ValueError(f"no finished training run in {folder}: {run.problem}")
    settings = read_config(folder).get("OPTIM")
    known = known_results(folder).get("epochs"), settings.get("MAX_EPOCH") if isinstance(settings, dict) else None
    saved = [re.fullmatch(r"model\.pth\.tar-(\d+)", path.name) for path in Path(folder).glob("*/model.pth.tar-*")]
    epochs = [epoch for epoch in known if _is_count(epoch)]
    epochs += sorted((int(match[1]) for match in saved if match), reverse=True)
    if not epochs:
        raise ValueError(f"cannot tell the last epoch of {folder}: no epochs in {RESULTS}, no MAX_EPOCH in {CONFIG}")
    return epochs[0]


def _first_line(text):
    """First line of a recorded text; "" for None and empty texts."""
    return next(iter(str("" if text is None else text).strip().splitlines()), "")[:500]


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


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
        return _unfinished(folder, ": ".join(filter(None, (text, _first_line(data.get("error"))))), known, data)
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
    suite = data.get("suite_tasks")
    return Run(
        folder,
        label,
        seed,
        COMPLETE,
        source=RESULTS,
        numbers=numbers,
        tasks=tasks,
        settings=_settings(folder, data),
        overrides=_overrides(data),
        notes=notes,
        costs=_costs(data),
        suite_tasks=tuple(map(str, suite)) if isinstance(suite, list) else (),
        chosen_on_test=_chosen_on_test(data),
        config=_config(folder, data),
        record=data,
    )


def _entry(data, name, kind):
    """The entry `name` of a dict, of the type `kind`. Raises KeyError, ValueError."""
    value = data[name]
    if not isinstance(value, kind) or isinstance(value, bool):
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


def _overrides(data):
    """{key: value as text} of the settings that differ from the configuration files."""
    found = data.get("overrides")
    return {str(key): str(value)[:100] for key, value in found.items()} if isinstance(found, dict) else {}


def _chosen_on_test(data):
    chosen = data.get("chosen")
    entries = chosen.values() if isinstance(chosen, dict) else ()
    return any(isinstance(entry, dict) and entry.get("chosen_on") == "test" for entry in entries)


def _costs(data):
    seconds = data.get("seconds")
    seconds = seconds if isinstance(seconds, dict) else {}
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
