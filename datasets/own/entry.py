"""Somebody's own images as a task, from YAML alone: an entry of DATASET.TASKS that is a mapping.

    TASKS:
      - ROOT: "photos"                       # folder of class folders, table, or Hugging Face imagefolder
        TASK_NAME: "animal image classification"
      - "OxfordPets"                         # beside any registered dataset

ROOT is looked for below DATASET.ROOT, if that is set, and else (or where it is not there) in the current folder. A
division that the data bring is kept. What they lack is made by a rule that draws by a hash of the image's path with a
seed of its own, and is saved beside the data, so that the test images stay the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dassl.data.tasks import DEFAULT_TEMPLATES
from dassl.metrics import METRICS
from dassl.utils import UserError, counted
from datasets.classnames import in_words
from datasets.folders import some
from datasets.own.forms import METADATA, TABLES, Listing, is_number, read_listing
from datasets.own.splits import own_split
from datasets.source import SPLITS, Item, Source, SourceTask

KEYS = ("NAME", "ROOT", "TASK_NAME", "DESCRIPTION", "CLASSNAMES", "TEMPLATE", "METRIC", "SPLIT")
TEXTS = ("NAME", "ROOT", "TASK_NAME", "DESCRIPTION", "SPLIT")  # keys whose value is one text


def own_tasks(entries: Sequence[Any], moved: Callable[[str], str] = str) -> tuple[list[str], dict[str, OwnSource]]:
    """Tell the own tasks in a list of tasks from the registered ones.

    Args:
        entries: DATASET.TASKS: names, and mappings with the keys `KEYS`.
        moved: what becomes of a ROOT that is not there (DATALOADER.OLD_DATA_PATH, NEW_DATA_PATH).

    Returns: (the names of all tasks, in order; {NAME: source} of the own ones).

    Raises:
        UserError: everything that is wrong with an entry, or two of one name.
    """
    names, own = [], {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            names.append(str(entry))
            continue
        source = OwnSource(entry, f"DATASET.TASKS, entry {number}", moved)
        if source.name in own:
            raise UserError(
                f"DATASET.TASKS has two tasks of the name {source.name!r} ({own[source.name].given} and "
                f"{source.given}); give one of them another NAME"
            )
        own[source.name] = source
        names.append(source.name)
    return names, own


class OwnSource:
    """The images of one entry of DATASET.TASKS as a source of one task, like `RowSource`.

    Args:
        entry: {ROOT, and as needed NAME, TASK_NAME, DESCRIPTION, CLASSNAMES, TEMPLATE, METRIC, SPLIT}.
        where: what the entry is called in messages.
        moved: see `own_tasks`.

    Raises:
        UserError: all that is wrong with the entry, in one text.
    """

    def __init__(self, entry: Mapping[str, Any], where: str = "DATASET.TASKS", moved: Callable[[str], str] = str):
        problems = _wrong_keys(entry)
        self.given = _text(entry, "ROOT")
        if not self.given:
            hint = "; a registered dataset is listed as its name alone" if "NAME" in entry else ""
            problems.append(f"ROOT is missing, the folder or table of the images{hint}")
        self.name = _text(entry, "NAME") or _name_of(self.given)
        if {"/", "\\"} & set(self.name):
            problems.append(f"NAME is {self.name!r}, which must not have a slash")
        self.task_name, self.description = _text(entry, "TASK_NAME"), _text(entry, "DESCRIPTION")
        self.unnamed = "TASK_NAME" in entry and not self.task_name
        self.split = _text(entry, "SPLIT")
        self.metric = entry.get("METRIC", "overall_acc")
        if self.metric not in (known := METRICS.declarable()):
            near = get_close_matches(str(self.metric).lower(), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"METRIC is {self.metric!r}, expected {' or '.join(known)}{hint}")
        given = entry.get("TEMPLATE") or DEFAULT_TEMPLATES
        self.templates = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if any(not isinstance(text, str) or text.count("{}") != 1 for text in self.templates):
            problems.append(f"TEMPLATE is {given!r}, expected a text with one {{}} for the class name, or several")
        self.classnames, found = _declared(entry.get("CLASSNAMES"))
        if problems := problems + found:
            called = _text(entry, "NAME") or self.given
            named = f" ({called})" if called else ""
            raise UserError(f"{where}{named}: " + "; ".join(problems))
        self.moved = moved
        self.task_keys = (self.name,)

    # ---- where the data lie ----------------------------------------------------------------------------------------

    def places(self, root: str) -> list[Path]:
        """Where ROOT is looked for, in this order."""
        given = os.path.expanduser(self.given)
        found = [os.path.join(root, given)] if root else []
        if given not in found:
            found.append(os.path.abspath(given))
        found = [os.path.abspath(path) for path in found]
        return [Path(path) for path in dict.fromkeys([*found, *map(self.moved, found)])]

    def place(self, root: str) -> Path | None:
        """The folder or table itself, None if it is nowhere."""
        return next((path for path in self.places(root) if path.exists()), None)

    def missing(self, root: str) -> str:
        """What is not there and where it was looked for; "" if it is there."""
        if self.place(root):
            return ""
        looked = " and no ".join(str(path) for path in self.places(root))
        return f"ROOT {self.given}: there is no {looked}; expected a folder of class folders, or a table (.csv)"

    # ---- reading ---------------------------------------------------------------------------------------------------

    def load(self, root: str) -> Source:
        """Read images, labels and split; one that had to be made is kept by the source's `save`.

        Raises:
            FileNotFoundError: ROOT, or images that a table or split names.
            UserError: data that contradict themselves or the entry.
        """
        place = self.place(root)
        if place is None:
            raise FileNotFoundError(f"{self.name}: {self.missing(root)}")
        listing = read_listing(place)
        labels, names = self._classes(listing)
        parts, made, save = own_split(self.name, listing, self._split_file(listing))
        notes = list(listing.notes)
        if not self.classnames and all(map(is_number, names)):
            notes.append("the class names are numbers, of which CLIP knows little; CLASSNAMES gives them names")
        for note in notes:
            print(f"{self.name}: {note}")
        position = {label: i for i, label in enumerate(labels)}
        items = {part: [Item(path, position[label]) for path, label in parts[part]] for part in SPLITS}
        task_name = self.task_name or _first_line(listing.folder / "task_name.txt") or in_words(self.name)
        if self.unnamed:
            print(f"{self.name}: TASK_NAME is empty; the task is called {task_name!r}, which SoftCPT reads")
        description = self.description or _first_line(listing.folder / "task_desc.txt")
        task = SourceTask(self.name, task_name, tuple(names), self.metric, self.templates, description)
        return Source(self.name, str(listing.folder), [task], **items, split_from=made, save=save)

    def _split_file(self, listing: Listing) -> Path | None:
        """The file of SPLIT, beside the images or in the current folder."""
        if not self.split:
            return None
        file = next((path for path in (listing.folder / self.split, Path(self.split)) if path.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"{self.name}: there is no SPLIT file {listing.folder / self.split}")
        return file

    def _classes(self, listing: Listing) -> tuple[list[str], list[str]]:
        """Labels in the order of their classes, and the class names."""
        labels, given = listing.labels, self.classnames
        where = f"{self.name} ({listing.where})"
        if len(labels) < 2:
            raise UserError(f"{where}: one class only, {some(labels)}; a task needs two or more")
        if isinstance(given, list):
            if all(map(is_number, labels)):
                given = {str(i): name for i, name in enumerate(given)}
            else:
                given = {name: name for name in given}
                labels = [name for name in given if name in labels] + [name for name in labels if name not in given]
        given = given or {}
        problems = []
        if unknown := [key for key in given if key not in labels]:
            near = get_close_matches(unknown[0], labels, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"labels of images: {some(labels, 5)}"
            which = f"the label{'s' * (len(unknown) > 1)} {some(map(repr, unknown))}"
            if isinstance(self.classnames, list) and all(map(is_number, labels)):
                which = f"{counted(len(given), 'name')}, for the labels 0 to {len(given) - 1}, and no image has {which}"
            else:
                which += ", which no image has"
            problems.append(f"CLASSNAMES has {which}; {hint}")
        if isinstance(self.classnames, list) or any(map(is_number, labels)):
            unnamed = [label for label in labels if given and label not in given]
            if unnamed:
                problems.append(f"CLASSNAMES has no name for {counted(len(unnamed), 'label')}: {some(unnamed, 5)}")
        if problems:
            raise UserError(f"{where}: " + "; ".join(problems))
        names = [in_words(given.get(label, label)) for label in labels]
        called: dict[str, str] = {}
        for label, name in zip(labels, names, strict=True):
            if called.setdefault(name, label) != label:
                raise UserError(f"{where}: the labels {called[name]!r} and {label!r} have one class name, {name!r}")
        return labels, names


def _wrong_keys(entry: Mapping[str, Any]) -> list[str]:
    """Keys that there are not, and values that are no text."""
    problems = []
    for key, value in entry.items():
        if key not in KEYS:
            near = get_close_matches(str(key).upper(), KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KEYS)}"
            problems.append(f"there is no key {key!r}, {hint}")
        elif key in TEXTS and (isinstance(value, bool) or not isinstance(value, (str, int, type(None)))):
            problems.append(f"{key} is {value!r}, expected a text")
    return problems


def _name_of(root: str) -> str:
    """Name of the folder, or of the table, that ROOT gives."""
    path = Path(os.path.abspath(root))
    if path.name in METADATA:
        path = path.parent
    return path.stem if path.suffix.lower() in TABLES else path.name


def _text(entry: Mapping[str, Any], key: str) -> str:
    return "" if entry.get(key) is None else str(entry[key]).strip()


def _declared(value: Any) -> tuple[dict[str, str] | list[str] | None, list[str]]:
    """CLASSNAMES as {label: name} or a list, and what is wrong with it."""
    if value is None or (isinstance(value, (Mapping, list, tuple)) and not value):
        return None, []
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple)):
        pairs = [(name, name) for name in value]
    else:
        return None, [f"CLASSNAMES is {value!r}, expected {{label: name}} or a list of names"]
    # YAML reads yes, no, on and off as truth values.
    odd = [x for pair in pairs for x in pair if isinstance(x, bool) or not isinstance(x, (str, int, float)) or x == ""]
    if odd:
        return None, [f"CLASSNAMES has {odd[0]!r}, expected texts; put yes, no, on, off into quotes"]
    if isinstance(value, Mapping):
        return {str(label): str(name) for label, name in pairs}, []
    names = [str(name) for name in value]
    twice = [name for name in names if names.count(name) > 1]
    return names, [f"CLASSNAMES has {twice[0]!r} twice"] if twice else []


def _first_line(path: Path) -> str:
    """First line of a small text file, "" where there is none."""
    if not path.is_file():
        return ""
    with open(path, encoding="utf-8-sig") as file:
        return file.readline().strip()
