"""One task of the user's own data, as an entry of DATASET.TASKS declares it: its texts, metric and class names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dassl.data.tasks import DEFAULT_TEMPLATES, Task, is_template
from dassl.metrics import METRICS
from dassl.utils.errors import UserError, counted, did_you_mean
from datasets.classnames import in_words
from datasets.folders import first_line, some
from datasets.own.tables import TAGS, Listing, is_number, tags_of

LONGEST = 80  # characters of a name, which is part of the names of files
TASK_TEXTS = ("TASK_NAME", "DESCRIPTION")  # keys whose value is one text
TASK_KEYS = (*TASK_TEXTS, "CLASSNAMES", "TEMPLATE", "METRIC")


class OwnTask:
    """The declaration of a task.

    Attributes:
        key: key of the task.
        problems: what is wrong with the declaration, one text each.
        has_metric: whether METRIC is given.
        tagging: whether METRIC makes it a tagging task, whose images have one or several labels.

    Args:
        key: key of the task; "" if it is unknown.
        entry: {TASK_NAME, DESCRIPTION, CLASSNAMES, TEMPLATE, METRIC}, all optional.
    """

    def __init__(self, key: str, entry: Mapping[str, Any]):
        self.key = key
        self.task_name, self.description = (text_of(entry, name) for name in TASK_TEXTS)
        self.unnamed = "TASK_NAME" in entry and not self.task_name
        self.problems = []
        self.metric, self.has_metric = entry.get("METRIC", "overall_acc"), "METRIC" in entry
        if self.metric not in (known := METRICS.declarable()):
            hint = did_you_mean(self.metric, known)
            self.problems.append(f"METRIC is {self.metric!r}, expected {' or '.join(known)}{hint}")
        self.tagging = self.metric in known and METRICS.get(self.metric).tags
        template = entry.get("TEMPLATE") or DEFAULT_TEMPLATES
        self.templates = tuple(template) if isinstance(template, (list, tuple)) else (template,)
        if not all(map(is_template, self.templates)):
            expected = "expected a text with one {} for the class name, or several"
            self.problems.append(f"TEMPLATE is {template!r}, {expected}")
        self.classnames, found = _declared(entry.get("CLASSNAMES"))
        self.problems += found

    def task(self, names: Sequence[str], notes: list[str], folder: Path | None = None, name: str = "") -> Task:
        """The task with the class names `names`; notes are added to `notes`.

        Args:
            names: C class names.
            notes: what the user should know.
            folder: where task_name.txt and task_desc.txt are looked for.
            name: name of the task in words that the data give.
        """
        if not self.classnames and all(map(is_number, names)):
            notes.append("the class names are numbers, which mean little to CLIP; name them in CLASSNAMES")
        given = first_line(folder / "task_name.txt") if folder and not self.task_name else ""
        task_name = self.task_name or given or name or in_words(self.key)
        if self.unnamed:
            notes.append(f"TASK_NAME is empty; SoftCPT reads {task_name!r} instead")
        description = self.description or (first_line(folder / "task_desc.txt") if folder else "")
        return Task(self.key, task_name, tuple(names), self.metric, self.templates, description)

    def classes(self, listing: Listing, where: str) -> tuple[list[str], list[str]]:
        """(the labels of a listing in class order, the class names).

        Args:
            listing: images with labels of this task; notes are added to it.
            where: what was read, for messages.

        Raises:
            UserError: one class only, or class names that do not fit the labels.
        """
        labels, given = listing.labels, self.classnames or {}
        if len(labels) < 2:
            raise UserError(f"{where}: found one class only, {some(labels)}; a task needs two or more")
        if not self.tagging and (joined := _joined(labels)):
            raise UserError(
                f"{where}: found {joined!r}, several labels of an image; expected one, or METRIC mAP for a task of tags"
            )
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
        return labels, self._names(labels, given, listing, where)

    @staticmethod
    def _names(labels: Sequence[str], given: Mapping[str, str], listing: Listing, where: str) -> list[str]:
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
        return names


def _joined(labels: Sequence[str]) -> str:
    """A label that consists of labels of other images, as in `cat;dog` beside `dog`; "" without one."""
    count = Counter(part for label in labels for part in tags_of(label))
    return next((label for label in labels if TAGS in label and any(count[part] > 1 for part in tags_of(label))), "")


def text_of(entry: Mapping[str, Any], key: str) -> str:
    """The text under `key` without surrounding spaces; "" if there is none."""
    return "" if entry.get(key) is None else str(entry[key]).strip()


def name_problems(name: str, key: str = "NAME") -> list[str]:
    """What is wrong with the name of a data set or task, which becomes part of file names."""
    if {"/", "\\"} & set(name):
        return [f"{key} is {name!r}, which must not contain a slash"]
    if name and (len(name) > LONGEST or not name.isprintable() or name.startswith(".")):
        found = f"of {len(name)} characters" if len(name) > LONGEST else repr(name)
        return [f"{key} is {found}, expected at most {LONGEST} printable characters without a leading dot"]
    return []


def wrong_keys(entry: Mapping[str, Any], known: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Unknown keys, and values that should be a text but are not."""
    problems = []
    for key, value in entry.items():
        if key not in known:
            hint = did_you_mean(str(key).upper(), known) or f"; known: {some(known, len(known))}"
            problems.append(f"unknown key {key!r}{hint}")
        elif key in texts and (isinstance(value, bool) or not isinstance(value, (str, int, type(None)))):
            problems.append(f"{key} is {value!r}, expected a text")
    return problems


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
