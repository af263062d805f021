"""Suites, i.e. lists of tasks, and the tasks that a configuration asks for.

A task is written as the name of a dataset ("OxfordPets", or "Fashion20" for all of its tasks), as dataset/task
("Icon13/faces"), or as a mapping that describes the user's own images (`datasets.own`). `DATASET.TASKS` replaces the
list of any suite. The suite named `Suite` has no list of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.views import replace_prefix
from dassl.utils.errors import UserError, did_you_mean
from datasets.fewshot import task_subset
from datasets.icon13.source import ICON13
from datasets.icon13.styles import STYLED
from datasets.own import own_tasks
from datasets.rows import RowSource
from datasets.table import ELEVATER20, GENERAL10, PLANT6, ROWS, RS8

# Everything that can be read: name -> an object with `task_keys`, `missing(root)` and `load(root)`.
SOURCES = {"Icon13": ICON13, **STYLED, **{name: RowSource(row) for name, row in ROWS.items()}}

# The five tasks whose class names align least with the drawings, hence where there is most to learn.
ICON5 = ("faces", "hands", "produce", "mammals", "dishes")
ICON8 = tuple(key for key in ICON13.task_keys if key not in ICON5)  # the other tasks, e.g. as sources for those five

# CoOp's eleven datasets, i.e. General-10 and ImageNet, in the order of most papers' tables.
GENERAL11 = (
    "ImageNet", "Caltech101", "OxfordPets", "StanfordCars", "OxfordFlowers", "Food101", "FGVCAircraft", "SUN397",
    "DescribableTextures", "EuroSAT", "UCF101",
)  # fmt: skip

SUITES: dict[str, tuple[str, ...]] = {
    "General10": tuple(row.name for row in GENERAL10),
    "General11": GENERAL11,
    "Plant6": tuple(row.name for row in PLANT6),
    "RS8": RS8,
    "Elevater20": ELEVATER20,
    "Icon8": tuple(f"Icon13/{key}" for key in ICON8),
    **{name.replace("13", "5"): tuple(f"{name}/{key}" for key in ICON5) for name in ("Icon13", *STYLED)},
}


class SuiteTask(NamedTuple):
    """A task of a suite.

    Attributes:
        dataset: name of its dataset.
        index: index of the task within the dataset.
        key: key of the task.
    """

    dataset: str
    index: int
    key: str


@dataclass(frozen=True)
class Asked:
    """The tasks that a configuration asks for.

    Attributes:
        name: DATASET.NAME.
        every: all tasks of the suite, in order; the position is the number of a task.
        numbers: numbers of the tasks that DATASET.SUBSAMPLE_TASKS chooses.
        sources: {dataset: what reads it}, of the chosen tasks.
        root: absolute path of the data root, "" without one.
    """

    name: str
    every: tuple[SuiteTask, ...]
    numbers: tuple[int, ...]
    sources: Mapping[str, Any]
    root: str

    @property
    def tasks(self) -> list[SuiteTask]:
        """The chosen tasks, in order."""
        return [self.every[number] for number in self.numbers]

    def indices(self, dataset: str) -> tuple[int, ...]:
        """Indices within `dataset` of its chosen tasks."""
        return tuple(task.index for task in self.tasks if task.dataset == dataset)


def asked(cfg, tasks: Sequence[str | Mapping] | None = None) -> Asked | None:
    """The tasks that a configuration asks for. Reads no data.

    Args:
        cfg: reads DATASET.{NAME, TASKS, SUBSAMPLE_TASKS, ROOT} and DATALOADER.{OLD_DATA_PATH, NEW_DATA_PATH}. A root
            or folder that does not exist is moved by the latter two.
        tasks: the list that DATASET.TASKS may replace; by default that of the registered dataset DATASET.NAME.

    Returns: None for a dataset class written for Dassl: its tasks are unknown until it is built.

    Raises:
        UserError: an unknown dataset or task, a task named twice, no task at all, or a wrong entry of own data.
    """
    name, entries = cfg.DATASET.NAME, list(cfg.DATASET.TASKS)
    if tasks is None and (name or not entries):
        tasks = getattr(DATASET_REGISTRY.get(name), "TASKS", None)
        if tasks is None:
            return None
    entries = entries or list(tasks)
    every = expand(entries)
    numbers = task_subset(cfg.DATASET.SUBSAMPLE_TASKS, [task.key for task in every])

    def moved(path: str) -> str:
        return replace_prefix(path, cfg.DATALOADER.OLD_DATA_PATH, cfg.DATALOADER.NEW_DATA_PATH)

    root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT)) if cfg.DATASET.ROOT else ""
    if root and not os.path.isdir(root):
        root = moved(root)
    known = known_sources(entries, moved)
    names = dict.fromkeys(every[number].dataset for number in numbers)
    return Asked(name, tuple(every), tuple(numbers), {dataset: known[dataset] for dataset in names}, root)


def expand(entries: Sequence[str | Mapping]) -> list[SuiteTask]:
    """The tasks of a list of tasks as users write it.

    Raises:
        UserError: an unknown dataset or task, a task named twice, or no task at all.
    """
    known = known_sources(entries)
    found: list[SuiteTask] = []
    for entry in own_tasks(entries)[0]:
        name, _, key = entry.partition("/")
        if name not in known:
            hint = f"; own data are listed as {{ROOT: {entry}}}" if os.path.exists(entry) else hint_of(name, known)
            raise UserError(f"DATASET.TASKS: unknown dataset {name!r}{hint}")
        keys = known[name].task_keys
        if key and key not in keys:
            raise UserError(f"DATASET.TASKS: {name} has no task {key!r}{hint_of(key, keys)}")
        found += [SuiteTask(name, keys.index(k), k) for k in ([key] if key else keys)]
    twice = sorted({f"{task.dataset}/{task.key}" for task in found if found.count(task) > 1})
    if twice:
        raise UserError(f"DATASET.TASKS names a task more than once: {', '.join(twice)}")
    owners = {task.key: task.dataset for task in found}
    if clash := next((task for task in found if owners[task.key] != task.dataset), None):
        raise UserError(
            f"DATASET.TASKS: {clash.dataset} and {owners[clash.key]} both have a task {clash.key!r}; give your own "
            "data another NAME"
        )
    if not found:
        raise UserError(
            "DATASET.TASKS is empty; list datasets, their tasks, or your own data, e.g. "
            "[OxfordPets, Icon13/faces, {ROOT: photos}]"
        )
    return found


def known_sources(entries: Sequence[str | Mapping], moved: Callable[[str], str] = str) -> dict[str, Any]:
    """{name: what reads it} of the registered datasets and of the own data in a list of tasks.

    Args:
        entries: the list of tasks as users write it.
        moved: maps the path of a folder of own data that does not exist to its new path.

    Raises:
        UserError: a wrong entry, two tasks of one name, or the name of a registered dataset.
    """
    own = own_tasks(entries, moved)[1]
    if taken := [name for name in own if name in SOURCES]:
        raise UserError(f"DATASET.TASKS: {taken[0]} is a registered dataset; give your own data another NAME")
    return {**SOURCES, **own}


def hint_of(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The end of a message about an unknown name: the most similar known name, or all known names."""
    return did_you_mean(name, known) or f"; known: {', '.join(sorted(known))}"
