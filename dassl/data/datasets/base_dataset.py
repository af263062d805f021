"""Datum, one labelled image, and the base classes of datasets: lists of items for training, validation and test."""

from __future__ import annotations

import hashlib
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dassl.data.tasks import Task, TaskSpace


@dataclass(frozen=True, slots=True)
class Datum:
    """One labelled image.

    Args:
        impath: path of the image file, or of a member of a zip file ("…/images.zip/faces/x.webp").
        label: class index.
        domain: domain index.
        classname: name of the class.
    """

    impath: str = ""
    label: int = 0
    domain: int = 0
    classname: str = ""

    def __post_init__(self):
        if not isinstance(self.impath, str):
            raise ValueError(f"impath must be a string, found {type(self.impath).__name__}: {self.impath!r}")


@dataclass(frozen=True, slots=True)
class DatumMT:
    """One labelled image of one of several tasks: `label` is the class index within task number `task`."""

    impath: str
    label: int
    task: int
    domain: int = 0
    classname: str = ""

    def __post_init__(self):
        if not isinstance(self.impath, str):
            raise ValueError(f"impath must be a string, found {type(self.impath).__name__}: {self.impath!r}")


def relative_path(impath: str, root: str = "") -> str:
    """`impath` relative to `root`, with forward slashes. A path outside `root` is returned whole."""
    if not root:
        return impath.replace(os.sep, "/")
    if impath.startswith(root + "/") and "//" not in impath and "/." not in impath:
        return impath[len(root) + 1 :]  # nearly all paths; the general case takes ten times as long
    path, root = (os.path.abspath(p).replace(os.sep, "/").rstrip("/") for p in (impath, root))
    return path[len(root) + 1 :] if path.startswith(root + "/") else path


def hash_split(splits: Mapping[str, Sequence], root: str = "") -> str:
    """SHA-256 (hex) of the relative paths, tasks and labels in {split name: items}; independent of their order."""
    digest = hashlib.sha256()
    for name, items in splits.items():
        lines = sorted(f"{relative_path(i.impath, root)}\t{getattr(i, 'task', 0)}\t{i.label}" for i in items or ())
        digest.update(f"{name} {len(lines)}\n".encode())
        digest.update("\n".join(lines).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class _Base:
    """Shared parts of single-task and multi-task datasets: splits, class list, label checks."""

    dataset_dir = ""  # folder of the dataset below DATASET.ROOT
    domains: Sequence[str] = ()  # names of the domains, if there are several
    image_root = ""  # folder to which image keys are relative; "": DATASET.ROOT

    def _set_splits(self, space: TaskSpace, **splits):
        """Set the space and the splits (train_x, val, test: items, or None), and check the labels."""
        self._space, self._splits = space, splits
        self._check_labels()

    # properties, as in Dassl: datasets of users may override them
    space = property(lambda self: self._space, doc="TaskSpace of the data.")
    train_x = property(lambda self: self._splits["train_x"], doc="Labelled training items.")
    train_u = property(lambda self: self._splits.get("train_u"), doc="Unlabelled training items, or None.")
    val = property(lambda self: self._splits["val"], doc="Validation items, or None.")
    test = property(lambda self: self._splits["test"], doc="Test items.")
    num_classes = property(lambda self: self._space.num_classes, doc="N, number of classes of all tasks.")
    classnames = property(lambda self: list(self._space.classnames), doc="N names in column order.")
    lab2cname = property(lambda self: dict(self._space.lab2cname), doc="{column: class name}.")

    @cached_property
    def split_hash(self) -> str:
        """Hash of the splits (hex). Datasets that draw few-shot sets from a larger split set the hash of that split."""
        return hash_split(self._splits, self.image_root)

    def _check_labels(self):
        """Check that every task is in the space and every label is a class of its task."""
        tasks = self._space.tasks
        bad, number = [], 0
        for split, items in self._splits.items():
            for item in items or ():
                task, label = getattr(item, "task", 0), item.label
                if label == -1 and split == "train_u":
                    continue  # the usual mark for "no label"
                if not hasattr(task, "__index__") or not 0 <= task < len(tasks):
                    why = f"task {task!r} is not in 0..{len(tasks) - 1}"
                elif not hasattr(label, "__index__") or not 0 <= label < len(tasks[task].classnames):
                    why = f"label {label!r} is not in 0..{len(tasks[task].classnames) - 1} of task {tasks[task].key!r}"
                else:
                    continue
                number += 1
                if len(bad) < 3:
                    bad.append(f"{split} {item.impath}: {why}")
        if number:
            found = "; ".join(bad) + ("; …" if number > len(bad) else "")
            raise ValueError(
                f"{type(self).__name__}: labels missing from the class list on {number} image"
                f"{'s' if number > 1 else ''}. {found}. Correct the split or the class list."
            )

    # ---- compatibility: helpers for dataset classes written for Dassl ----

    @staticmethod
    def split_dataset_by_label(data_source: Iterable) -> dict[int, list]:
        """{label: items}, labels in order of appearance."""
        output = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    @staticmethod
    def split_dataset_by_domain(data_source: Iterable) -> dict[int, list]:
        """{domain: items}, domains in order of appearance."""
        output = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]):
        """Raise ValueError if a chosen domain is not one of `self.domains`."""
        for key, chosen in (("SOURCE_DOMAINS", source_domains), ("TARGET_DOMAINS", target_domains)):
            bad = [domain for domain in chosen if domain not in self.domains]
            if bad:
                known = ", ".join(self.domains)
                raise ValueError(f"DATASET.{key}: {bad[0]!r} is not a domain of {type(self).__name__}; it has: {known}")


class DatasetBase(_Base):
    """A dataset of one task, with Dassl's arguments.

    The class list is `classnames`, or else the class attribute `CLASSNAMES`, or else it is collected from the items of
    all splits, whose labels must then be 0, 1, 2, … without a gap.

    Args:
        train_x: labelled training items.
        train_u: unlabelled training items; label -1 is allowed here.
        val: validation items, or None.
        test: test items.
        classnames: C names. The position of a name is its label.

    Raises:
        ValueError: labels outside the class list; the text lists the first of them and their number.
    """

    CLASSNAMES: Sequence[str] = ()
    DATASET_NAME = ""  # name of the task in words; if empty, the name of the class
    metric = "overall_acc"
    templates: Sequence[str] = ()

    def __init__(self, train_x=None, train_u=None, val=None, test=None, classnames: Sequence[str] | None = None):
        splits = {"train_x": train_x, "train_u": train_u, "val": val, "test": test}
        key = type(self).__name__
        names = tuple(classnames or self.CLASSNAMES) or _classnames_from_items(splits, key)
        fields = {"templates": tuple(self.templates)} if self.templates else {}
        task = Task(key=key, name=self.DATASET_NAME or key, classnames=names, metric=self.metric, **fields)
        self._set_splits(TaskSpace((task,)), **splits)

    @staticmethod
    def get_num_classes(data_source: Iterable) -> int:
        """Number of classes in a list of items with labels 0, 1, 2, …"""
        return max((item.label for item in data_source), default=-1) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable) -> tuple[dict[int, str], list[str]]:
        """({label: class name}, class names in the order of their labels) for a list of items."""
        names = {item.label: item.classname for item in data_source}
        return names, [names[label] for label in sorted(names)]

    def generate_fewshot_dataset(self, *data_sources, num_shots: int = -1, repeat: bool = False):
        """Draw `num_shots` items per class from each list, or all items if num_shots < 1.

        Items are drawn with Python's `random`, as in Dassl; the caller seeds it. A class with fewer items gives all of
        them, or with `repeat`, `num_shots` items drawn with replacement.

        Returns: one list, or a list of lists if several were given.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        output = []
        for data_source in data_sources:
            chosen = []
            for items in self.split_dataset_by_label(data_source).values():
                if len(items) >= num_shots:
                    chosen += random.sample(items, num_shots)
                else:
                    chosen += random.choices(items, k=num_shots) if repeat else items
            output.append(chosen)
        return output[0] if len(output) == 1 else output


def _classnames_from_items(splits: Mapping[str, Sequence | None], key: str) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for split, items in splits.items():
        for item in items or ():
            if item.label == -1 and split == "train_u":
                continue
            if names.setdefault(item.label, item.classname) != item.classname:
                raise ValueError(
                    f"{key}: label {item.label} is called {names[item.label]!r} and {item.classname!r} "
                    f"(first seen in {split}: {item.impath}); give every class one name"
                )
    if not names:
        raise ValueError(f"{key}: no image in any split, so the classes are unknown; check its folder")
    missing = [label for label in range(len(names)) if label not in names]
    if missing:
        odd = [label for label in names if label not in range(len(names))]
        raise ValueError(
            f"{key}: found {len(names)} different labels but not label {missing[0]} (found {odd[0]!r} instead); "
            f"labels must be 0, 1, 2, … without a gap, or pass classnames= to DatasetBase"
        )
    return tuple(names[label] for label in range(len(names)))


class DatasetBaseMT(_Base):
    """A dataset of several tasks. Its items are `DatumMT`; `space` declares their classes.

    Args:
        space: the tasks.
        train_x, val, test: items, or None.

    Raises:
        ValueError: tasks or labels that are not in `space`; the text lists the first of them and their number.
    """

    def __init__(self, space: TaskSpace, train_x=None, val=None, test=None):
        self._set_splits(space, train_x=train_x, val=val, test=test)

    # names of the published code: {task: value}
    taskid2tname = property(lambda self: {t: task.name for t, task in enumerate(self.space.tasks)})
    taskid2cname = property(lambda self: {t: task.classnames for t, task in enumerate(self.space.tasks)})
    taskid2desc = property(lambda self: {t: task.description for t, task in enumerate(self.space.tasks)})
    taskid2metric = property(lambda self: {t: task.metric for t, task in enumerate(self.space.tasks)})
    taskid2type = property(lambda self: dict.fromkeys(range(self.space.num_tasks), "sl"))  # a single label per image
