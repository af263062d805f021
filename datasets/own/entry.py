"""The user's own images, described in YAML: an entry of DATASET.TASKS that is a mapping.

    TASKS:
      - ROOT: "photos"                       # folder of class folders, table, or Hugging Face imagefolder
        TASK_NAME: "animal image classification"
      - ROOT: "faces.csv"                    # images with labels of several tasks, a column each
        TASKS: {age: {TASK_NAME: "age group"}, emotion: {}}
      - "OxfordPets"                         # beside any registered dataset

ROOT is looked for below DATASET.ROOT, if that is set, and then in the current folder. Existing splits are kept. Missing
ones are created by hashing the image paths and are saved beside the data, so that the test images stay the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dassl.config.rules import show
from dassl.utils.errors import UserError, counted, near_path
from datasets.folders import some
from datasets.own.forms import read_listing
from datasets.own.labels import labels_source, split_dk_source
from datasets.own.splits import own_split
from datasets.own.tables import LABEL, METADATA, TABLES, Listing
from datasets.own.task import TASK_KEYS, TASK_TEXTS, OwnTask, name_problems, text_of, wrong_keys
from datasets.source import SPLITS, Item, Source

TEXTS = ("NAME", "ROOT", *TASK_TEXTS, "SPLIT")  # keys whose value is one text
KEYS = ("NAME", "ROOT", *TASK_KEYS, "SPLIT", "TASKS")


def own_tasks(entries: Sequence[Any], moved: Callable[[str], str] = str) -> tuple[list[str], dict[str, OwnSource]]:
    """Separate the own tasks in a list of tasks from the registered ones.

    Args:
        entries: DATASET.TASKS: names, and mappings with the keys `KEYS`.
        moved: maps a ROOT to its new place (DATALOADER.OLD_DATA_PATH, NEW_DATA_PATH).

    Returns:
        (the names of all entries, in order; {NAME: source} of the own ones).

    Raises:
        UserError: all problems of one entry, or two entries with one name.
    """
    names, own = [], {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            names.append(str(entry))
            continue
        source = OwnSource(entry, f"DATASET.TASKS, entry {number}", moved)
        if source.name in own:
            raise UserError(
                f"DATASET.TASKS has two tasks named {source.name!r} ({own[source.name].given} and {source.given}); "
                "give one of them another NAME"
            )
        own[source.name] = source
        names.append(source.name)
    return names, own


class OwnSource:
    """The images of one entry of DATASET.TASKS as a source of one or several tasks, like `RowSource`.

    Attributes:
        tasks: the declared tasks.
        columns: the column of each task in lower case; () for one label per image.

    Args:
        entry: {ROOT, and optionally NAME, SPLIT, and the keys of a task; or TASKS with the keys of each task}.
        where: the entry's name in messages.
        moved: see `own_tasks`.

    Raises:
        UserError: all problems of the entry, in one text.
    """

    def __init__(self, entry: Mapping[str, Any], where: str = "DATASET.TASKS", moved: Callable[[str], str] = str):
        problems = wrong_keys(entry, KEYS, TEXTS)
        self.given, self.split, self.moved = text_of(entry, "ROOT"), text_of(entry, "SPLIT"), moved
        if not self.given:
            hint = "; a registered dataset is listed as its name alone" if "NAME" in entry else ""
            problems.append(f"ROOT, the folder or table of the images, is missing{hint}")
        self.name = text_of(entry, "NAME") or _name_of(self.given)
        problems += name_problems(self.name)
        if "TASKS" in entry:
            self.tasks, self.columns, found = _several(entry)
            problems += found
        else:
            self.tasks = [OwnTask(self.name, entry)]
            self.columns = LABEL if self.tasks[0].tagging else ()
            problems += self.tasks[0].problems
            if Path(self.given).suffix.lower() == ".json":
                problems.append("ROOT is a split file; give keys for its tasks, e.g. TASKS: [age, emotion]")
        self.task_keys = tuple(task.key for task in self.tasks)
        if problems:
            called = show(text_of(entry, "NAME") or self.given) if text_of(entry, "NAME") or self.given else ""
            raise UserError(f"{where}{f' ({called})' if called else ''}: {'; '.join(problems)}")

    def places(self, root: str) -> list[Path]:
        """The paths where ROOT is looked for, in this order."""
        given = os.path.expanduser(self.given)
        found = [os.path.abspath(os.path.join(folder, given)) for folder in (root, ".") if folder]
        return [Path(path) for path in dict.fromkeys([*found, *map(self.moved, found)])]

    def place(self, root: str) -> Path | None:
        """The folder or table that ROOT names; None if it does not exist."""
        return next((path for path in self.places(root) if path.exists()), None)

    def missing(self, root: str) -> str:
        """A message with the places where ROOT was looked for; "" if it exists."""
        if self.place(root):
            return ""
        looked = " or ".join(str(path) for path in self.places(root))
        near = next(filter(None, map(near_path, self.places(root))), "")
        text = f"ROOT {self.given} does not exist: looked for {looked}; expected a folder of class folders, or a .csv"
        return text + near

    def load(self, root: str) -> Source:
        """Read images, labels and split; a created split is saved by the source's `save`.

        Raises:
            FileNotFoundError: ROOT, or images that a table or split names, do not exist.
            UserError: the data contradict themselves or the entry.
        """
        place = self.place(root)
        if place is None:
            raise FileNotFoundError(f"{self.name}: {self.missing(root)}")
        if place.suffix.lower() == ".json":
            return split_dk_source(self.name, place, self.tasks)
        several = {column: task.tagging for column, task in zip(self.columns, self.tasks, strict=False)}
        listing = read_listing(place, several or None)
        paths = (path for rows in listing.parts.values() for path, _ in rows)
        if odd := [ascii(path) for path in paths if path.encode("utf-8", "replace").decode() != path]:
            raise UserError(
                f"{self.name}: the names of {counted(len(odd), 'image')} are not UTF-8: {some(odd)}; rename them"
            )
        if self.columns:
            return labels_source(self.name, listing, self.tasks, self.columns, self._split_file(listing))
        labels, names = self.tasks[0].classes(listing, f"{self.name} ({listing.where})")
        parts, origin, save = own_split(self.name, listing, self._split_file(listing))
        notes = list(listing.notes)
        task = self.tasks[0].task(names, notes, listing.folder)
        for note in notes:
            print(f"{self.name}: {note}")
        position = {label: i for i, label in enumerate(labels)}
        items = {part: [Item(path, position[label]) for path, label in parts[part]] for part in SPLITS}
        return Source(self.name, str(listing.folder), [task], **items, split_from=origin, save=save)

    def _split_file(self, listing: Listing) -> Path | None:
        """The file of SPLIT, beside the images or in the current folder; None without SPLIT."""
        if not self.split:
            return None
        places = listing.folder / self.split, Path(self.split)
        if not (file := next((path for path in places if path.is_file()), None)):
            raise FileNotFoundError(f"{self.name}: the SPLIT file {places[0]} does not exist{near_path(places[0])}")
        return file


def _several(entry: Mapping[str, Any]) -> tuple[list[OwnTask], tuple[str, ...], list[str]]:
    """(the tasks under TASKS, the column of each, problems)."""
    given = entry["TASKS"]
    if isinstance(given, (list, tuple)) and all(isinstance(key, (str, int)) for key in given):
        given = {str(key): {} for key in given}
    if not isinstance(given, Mapping) or not given:
        expected = "expected columns of the table: [age, emotion], or {age: {…}, emotion: {…}}"
        return [], (), [f"TASKS is {show(given)}, {expected}"]
    problems = [f"{key} belongs to a task under TASKS" for key in TASK_KEYS if key in entry]
    tasks, columns = [], []
    for key, inner in given.items():
        key, inner = str(key), {} if inner is None else inner
        if not isinstance(inner, Mapping):
            problems.append(f"TASKS, {key}: found {inner!r}, expected a mapping with {', '.join(TASK_KEYS)}")
            continue
        task = OwnTask(key, inner)
        found = wrong_keys(inner, (*TASK_KEYS, "COLUMN"), (*TASK_TEXTS, "COLUMN")) + task.problems
        problems += [f"TASKS, {key}: {problem}" for problem in found + name_problems(key, "its name")]
        tasks.append(task)
        columns.append((text_of(inner, "COLUMN") or key).strip().lower())
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        problems.append(f"TASKS has two tasks of the column {twice[0]!r}")
    if taken := sorted({"path", "file_name", "split"} & set(columns)):
        problems.append(f"TASKS has the column {taken[0]!r}, which does not hold labels")
    return tasks, tuple(columns), problems


def _name_of(root: str) -> str:
    """Name of the folder or table that ROOT gives."""
    path = Path(os.path.abspath(root))
    if path.name in METADATA:
        path = path.parent
    return path.stem if path.suffix.lower() in (*TABLES, ".yaml", ".yml", ".json") else path.name
