"""The files in the folder of a run: their names, and how they are read. Imports no PyTorch.

results.json is the result for programs, config.yaml the resolved settings, tasks.json the tasks with their class names.
Readers accept the files of every earlier version. `dassl.runs.results` makes a `Run` of them.
"""

import os
import re
from pathlib import Path

from dassl.config.files import read_yaml
from dassl.utils.errors import UserError
from dassl.utils.tools import read_json

RESULTS, CONFIG, TASKS = "results.json", "config.yaml", "tasks.json"
PREDICTIONS, CMAT = "predictions.csv", "cmat.pt"
CONFUSION = "confusion.csv"  # of earlier versions
RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"  # values of "status"
UNREADABLE = "unreadable"  # status of a run whose files are missing or damaged


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


def entries(record, name):
    """The dict that a recorded dict has under `name`; {} if there is none."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def is_complete(folder):
    """Whether the run in `folder` is finished, by its results.json."""
    return known_results(folder).get("status") == COMPLETE


def status_of(folder):
    """The recorded status, RUNNING, COMPLETE, INTERRUPTED or FAILED; "" if it is not known."""
    status = known_results(folder).get("status")
    return status if isinstance(status, str) else ""


def hash_of(folder, what):
    """Recorded hash of the run's "config", "split" or "weights"; None if it is not known."""
    value = entries(known_results(folder), "hashes").get(what)
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
    return first_line(data.get("error")) if data.get("status") == FAILED else ""


def first_line(text):
    """First line of a recorded text; "" for None and empty texts."""
    return next(iter(str("" if text is None else text).strip().splitlines()), "")[:500]
