"""What a run has written about itself: the names of its files, and how they are read. Imports no PyTorch.

results.json is the result for programs, config.yaml the resolved settings, tasks.json the tasks with their class names.
Readers accept the files of every earlier version.
"""

import json
import os

RESULTS, CONFIG, TASKS = "results.json", "config.yaml", "tasks.json"


def has_results(folder):
    """Whether `folder` has a results.json."""
    return os.path.isfile(os.path.join(folder, RESULTS))


def has_config(folder):
    """Whether `folder` has a config.yaml, as every run that has begun."""
    return os.path.isfile(os.path.join(folder, CONFIG))


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


def hash_of(folder, what):
    """Recorded hash of the run's "config", "split" or "weights"; None if it is not known."""
    return (known_results(folder).get("hashes") or {}).get(what)
