"""The user's own images as a task, described in YAML: an entry of DATASET.TASKS that is a mapping.

    TASKS:
      - ROOT: "photos"                       # folder of class folders, table, or Hugging Face imagefolder
        TASK_NAME: "animal image classification"
      - "OxfordPets"                         # beside any registered dataset

ROOT is looked for below DATASET.ROOT, if that is set, and then in the current folder. Existing splits are kept. Missing
ones are created by hashing the image paths and are saved beside the data, so that the test images stay the same.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dassl.config.rules import show
from dassl.data.tasks import DEFAULT_TEMPLATES, Task, is_template
from dassl.metrics import METRICS
from dassl.utils.errors import UserError, counted, near_path
from datasets.classnames import in_words
from datasets.folders import did_you_mean, first_line, some
from datasets.own.forms import METADATA, TABLES, Listing, is_number, read_listing
from datasets.own.splits import own_split
from datasets.source import SPLITS, Item, Source

TEXTS = ("NAME", "ROOT", "TASK_NAME", "DESCRIPTION", "SPLIT")  # keys whose value is one text
LONGEST = 80  # characters of a name, which is part of the names of files
KEYS = (*TEXTS[:4], "CLASSNAMES", "TEMPLATE", "METRIC", "SPLIT")


def own_tasks(entries: Sequence[Any], moved: Callable[[str], str] = str) -> tuple[list[str], dict[str, OwnSource]]:
    """Separate the own tasks in a list of tasks from the registered ones.

    Args:
        entries: DATASET.TASKS: names, and mappings with the keys `KEYS`.
        moved: maps a ROOT to its new place (DATALOADER.OLD_DATA_PATH, NEW_DATA_PATH).

    Returns:
        (the names of all tasks, in order; {NAME: source} of the own ones).

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
    """The images of one entry of DATASET.TASKS as a source of one task, like `RowSource`.

    Args:
        entry: {ROOT, and optionally NAME, TASK_NAME, DESCRIPTION, CLASSNAMES, TEMPLATE, METRIC, SPLIT}.
        where: the entry's name in messages.
        moved: see `own_tasks`.

    Raises:
        UserError: all problems of the entry, in one text.
    """

    def __init__(self, entry: Mapping[str, Any], where: str = "DATASET.TASKS", moved: Callable[[str], str] = str):
        problems = _wrong_keys(entry)
        text = {key: "" if entry.get(key) is None else str(entry[key]).strip() for key in TEXTS}
        self.given, self.task_name, self.description = text["ROOT"], text["TASK_NAME"], text["DESCRIPTION"]
        self.split, self.moved = text["SPLIT"], moved
        self.unnamed = "TASK_NAME" in entry and not self.task_name
        if not self.given:
            hint = "; a registered dataset is listed as its name alone" if "NAME" in entry else ""
            problems.append(f"ROOT, the folder or table of the images, is missing{hint}")
        self.name = text["NAME"] or _name_of(self.given)
        self.task_keys = (self.name,)
        if {"/", "\\"} & set(self.name):
            problems.append(f"NAME is {self.name!r}, which must not contain a slash")
        elif self.name and (len(self.name) > LONGEST or not self.name.isprintable() or self.name.startswith(".")):
            name = f"of {len(self.name)} characters" if len(self.name) > LONGEST else repr(self.name)
            problems.append(f"NAME is {name}, expected at most {LONGEST} printable characters without a leading dot")
        self.metric = entry.get("METRIC", "overall_acc")
        if self.metric not in (known := METRICS.declarable()):
            hint = did_you_mean(str(self.metric).lower(), known)
            problems.append(f"METRIC is {self.metric!r}, expected {' or '.join(known)}{hint}")
        template = entry.get("TEMPLATE") or DEFAULT_TEMPLATES
        self.templates = tuple(template) if isinstance(template, (list, tuple)) else (template,)
        if not all(map(is_template, self.templates)):
            problems.append(f"TEMPLATE is {template!r}, expected a text with one {{}} for the class name, or several")
        self.classnames, found = _declared(entry.get("CLASSNAMES"))
        problems += found
        if problems:
            called = show(text["NAME"] or self.given) if text["NAME"] or self.given else ""
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
        listing = read_listing(place)
        paths = (path for rows in listing.parts.values() for path, _ in rows)
        if odd := [ascii(path) for path in paths if path.encode("utf-8", "replace").decode() != path]:
            raise UserError(
                f"{self.name}: the names of {counted(len(odd), 'image')} are not UTF-8: {some(odd)}; rename them"
            )
        labels, names = self._classes(listing)
        parts, origin, save = own_split(self.name, listing, self._split_file(listing))
        notes = list(listing.notes)
        if not self.classnames and all(map(is_number, names)):
            notes.append("the class names are numbers, which mean little to CLIP; name them in CLASSNAMES")
        task_name = self.task_name or first_line(listing.folder / "task_name.txt") or in_words(self.name)
        if self.unnamed:
            notes.append(f"TASK_NAME is empty; SoftCPT reads {task_name!r} instead")
        for note in notes:
            print(f"{self.name}: {note}")
        position = {label: i for i, label in enumerate(labels)}
        items = {part: [Item(path, position[label]) for path, label in parts[part]] for part in SPLITS}
        description = self.description or first_line(listing.folder / "task_desc.txt")
        task = Task(self.name, task_name, tuple(names), self.metric, self.templates, description)
        return Source(self.name, str(listing.folder), [task], **items, split_from=origin, save=save)

    def _split_file(self, listing: Listing) -> Path | None:
        """The file of SPLIT, beside the images or in the current folder; None without SPLIT."""
        if not self.split:
            return None
        places = listing.folder / self.split, Path(self.split)
        if not (file := next((path for path in places if path.is_file()), None)):
            raise FileNotFoundError(f"{self.name}: the SPLIT file {places[0]} does not exist{near_path(places[0])}")
        return file

    def _classes(self, listing: Listing) -> tuple[list[str], list[str]]:
        """(the labels in class order, the class names)."""
        labels, given = listing.labels, self.classnames or {}
        where = f"{self.name} ({listing.where})"
        if len(labels) < 2:
            raise UserError(f"{where}: found one class only, {some(labels)}; a task needs two or more")
        listed, numbers = isinstance(given, list), all(map(is_number, labels))
        if listed and numbers:
            given = {str(i): name for i, name in enumerate(given)}
        elif listed:
            given = {name: name for name in given}
            labels = [name for name in given if name in labels] + [name for name in labels if name not in given]
        problems = []
        if unknown := [key for key in given if key not in labels]:
            which = f"the label{'s' * (len(unknown) > 1)} {some(map(repr, unknown))}"
            if listed and numbers:
                which = f"{counted(len(given), 'name')}, for the labels 0 to {len(given) - 1}, but no image has {which}"
            else:
                which = f"a name for {which}, which no image has"
            hint = (not numbers and did_you_mean(unknown[0], labels)) or f"; labels of images: {some(labels, 5)}"
            problems.append(f"CLASSNAMES has {which}{hint}")
        unnamed = [label for label in labels if given and label not in given]
        if unnamed and (listed or any(map(is_number, labels))):
            problems.append(f"CLASSNAMES has no name for {counted(len(unnamed), 'label')}: {some(unnamed, 5)}")
        if problems:
            raise UserError(f"{where}: {'; '.join(problems)}")
        names = [in_words(given.get(label, label)) for label in labels]
        called: dict[str, str] = {}
        lower = Counter(name.lower() for name in set(names))
        if alike := sorted(name for name in set(names) if lower[name.lower()] > 1):
            listing.notes.append(f"WARNING: CLIP ignores case, so it cannot tell {some(alike)} apart; see CLASSNAMES")
        for label, name in zip(labels, names, strict=True):
            if not name:
                raise UserError(f"{where}: the class name of the label {label!r} is empty; give it one in CLASSNAMES")
            if called.setdefault(name, label) != label:
                raise UserError(f"{where}: the labels {called[name]!r} and {label!r} have one class name, {name!r}")
        return labels, names


def _wrong_keys(entry: Mapping[str, Any]) -> list[str]:
    """Unknown keys, and values that should be a text but are not."""
    problems = []
    for key, value in entry.items():
        if key not in KEYS:
            problems.append(f"unknown key {key!r}{did_you_mean(str(key).upper(), KEYS) or f'; known: {some(KEYS, 9)}'}")
        elif key in TEXTS and (isinstance(value, bool) or not isinstance(value, (str, int, type(None)))):
            problems.append(f"{key} is {value!r}, expected a text")
    return problems


def _name_of(root: str) -> str:
    """Name of the folder or table that ROOT gives."""
    path = Path(os.path.abspath(root))
    if path.name in METADATA:
        path = path.parent
    return path.stem if path.suffix.lower() in TABLES else path.name


def _declared(value: Any) -> tuple[dict[str, str] | list[str] | None, list[str]]:
    """(CLASSNAMES as {label: name} or a list, its problems)."""
    if value is None or (isinstance(value, (Mapping, list, tuple)) and not value):
        return None, []
    if not isinstance(value, (Mapping, list, tuple)):
        return None, [f"CLASSNAMES is {value!r}, expected {{label: name}} or a list of names"]
    pairs = list(value.items()) if isinstance(value, Mapping) else [(name, name) for name in value]
    # YAML reads yes, no, on and off as truth values.
    odd = [x for pair in pairs for x in pair if isinstance(x, bool) or not isinstance(x, (str, int, float)) or x == ""]
    if odd:
        return None, [f"CLASSNAMES has {odd[0]!r}, expected texts; put yes, no, on, off into quotes"]
    if isinstance(value, Mapping):
        return {str(label): str(name) for label, name in pairs}, []
    names = [str(name) for name in value]
    twice = [name for name in names if names.count(name) > 1]
    return names, [f"CLASSNAMES has {twice[0]!r} twice"] if twice else []
