"""One run folder: is it finished, and what did it measure."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from dassl.runs.record import has_results, read_results
from reporting.logs import final_test_block

# names under which numbers are known elsewhere -> their name here
ALIASES = {"metric": "overall_metric", "value": "overall_metric", "accuracy": "overall_acc", "error": "error_rate"}
METRICS = ("overall_acc", "mean_acc", "macro_f1")
SETTINGS = ("trainer", "suite", "protocol", "subsample_tasks", "shots", "epochs", "backbone", "precision", "split")


@dataclass(frozen=True)
class TaskResult:
    """Numbers of one task, per cent; None where there was nothing to measure."""

    id: int
    name: str
    images: int | None
    metric: str  # the declared one: overall_acc, mean_acc, or "" where a log does not say
    numbers: dict[str, float | None]
    key: str = ""


@dataclass(frozen=True)
class Run:
    """A run folder. `numbers` and `tasks` are filled only when `finished`."""

    folder: Path
    label: str  # "seed1", else the folder's name
    seed: int | None
    finished: bool
    problem: str = ""  # why it is not finished
    source: str = ""  # file the numbers come from
    numbers: dict[str, float | None] = field(default_factory=dict)
    tasks: tuple[TaskResult, ...] = ()
    settings: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    costs: dict[str, float] = field(default_factory=dict)  # parameters, train and test in seconds, memory in bytes
    suite_tasks: tuple[str, ...] = ()  # keys of all tasks of the suite, where that is known


def canonical(name: str) -> str:
    return ALIASES.get(name, name)


def seed_of_name(name: str) -> int | None:
    """3 for "seed3", "seed_3", "seed-3"; None for other names."""
    match = re.fullmatch(r"seed[-_]?(\d+)", name)
    return int(match[1]) if match else None


def log_files(folder: Path) -> list[Path]:
    """log.txt and log.txt-<time>, the newest first.

    The time in the name decides, not the file's: copying a results folder often loses the latter. The one without
    is the first that was written.
    """

    def age(path: Path):
        return [int(part) for part in re.findall(r"\d+", path.name)]

    return sorted((path for path in folder.glob("log.txt*") if re.fullmatch(r"log\.txt(-.*)?", path.name)), key=age)[
        ::-1
    ]


def is_run(folder: Path) -> bool:
    return has_results(folder) or bool(log_files(folder))


def read_run(folder: Path, test_log: bool = False) -> Run:
    """What is in a run folder: its results.json, else its newest log with a final test result."""
    folder = Path(folder)
    seed = seed_of_name(folder.name)
    label = folder.name if folder.name else str(folder)
    try:
        data = read_results(folder)
        if data is not None:
            return _from_results(folder, label, seed, data)
    except ValueError as error:
        return Run(folder, label, seed, False, str(error))
    return _from_logs(folder, label, seed, test_log)


def _from_results(folder: Path, label: str, seed: int | None, data: dict) -> Run:
    status = data.get("status")
    if status != "complete":
        reason = f"results.json says {status!r}"
        if data.get("error"):
            reason += f": {str(data['error']).strip().splitlines()[0]}"
        return Run(folder, label, seed, False, reason)
    try:
        mean = data["mean"]
        numbers = {"overall_metric": mean["value"], **{name: mean.get(name) for name in METRICS}}
        tasks = tuple(
            TaskResult(
                id=int(task["id"]),
                name=str(task["name"]),
                images=task.get("images"),
                metric=task.get("metric") or "",
                numbers={"overall_metric": task["value"], **{name: task.get(name) for name in METRICS}},
                key=str(task.get("key") or ""),
            )
            for task in data["tasks"]
        )
    except (KeyError, TypeError, ValueError) as error:
        return Run(folder, label, seed, False, f"results.json is not as expected: {type(error).__name__} {error}")
    notes = ()
    recorded = data.get("seed")
    if seed is None:
        seed = recorded
    elif recorded is not None and recorded != seed:
        notes = (f"{label}: its results.json is of seed {recorded}",)
    settings = {name: data.get(name) for name in SETTINGS}
    suite = tuple(map(str, data.get("suite_tasks") or ()))
    return Run(folder, label, seed, True, "", "results.json", numbers, tasks, settings, notes, _costs(data), suite)


def _costs(data: dict) -> dict[str, float]:
    seconds = data.get("seconds") or {}
    found = {
        "parameters": data.get("learnable_parameters"),
        "train": seconds.get("train"),
        "test": seconds.get("test"),
        "memory": data.get("peak_memory_bytes"),
    }
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}


def _from_logs(folder: Path, label: str, seed: int | None, test_log: bool) -> Run:
    problems = []
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
        return Run(folder, label, seed, True, "", path.name, numbers, tasks, {}, notes)
    return Run(folder, label, seed, False, "; ".join(problems) or "neither results.json nor log.txt")
