"""Datum, one labelled image, and the base classes of datasets: lists of items for training, validation and test."""

from __future__ import annotations

import hashlib
import os
import random
import re
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from torch.hub import download_url_to_file

from dassl.data.datasets.published import published_space
from dassl.data.tasks import Task, TaskSpace
from dassl.utils.errors import UserError
from dassl.utils.tools import not_a_download


class _Item:
    """Shared parts of Datum and DatumMT.

    As in Dassl, the values are read through properties and stored in attributes with an underscore, which code written
    for Dassl also writes (`item._label += 10`). A pickled item has Dassl's form, so that caches with pickled items
    (`split_fewshot/*.pkl`, `preprocessed.pkl`) can be exchanged with the original.
    """

    _fields = ("impath", "label", "domain", "classname")

    impath = property(lambda self: self._impath, doc="Path of the image.")
    label = property(lambda self: self._label, doc="Class index.")
    domain = property(lambda self: self._domain, doc="Domain index.")
    classname = property(lambda self: self._classname, doc="Name of the class.")

    def _set(self, **values):
        if not isinstance(values["impath"], str):
            found = values["impath"]
            raise ValueError(f"impath must be a string, found {type(found).__name__}: {found!r}")
        for name, value in values.items():
            setattr(self, f"_{name}", value)

    def __setstate__(self, state):
        if isinstance(state, (list, tuple)):  # pickled by an earlier version of this project
            state = {f"_{name}": value for name, value in zip(self._fields, state, strict=True)}
        self.__dict__.update(state)

    def __eq__(self, other):
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self):
        return hash(self._impath)  # the other values may change while the item is in a set

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"


class Datum(_Item):
    """One labelled image.

    Args:
        impath: path of the image file, or of a member of a zip file ("…/images.zip/faces/x.webp").
        label: class index.
        domain: domain index.
        classname: name of the class.

    Raises:
        ValueError: `impath` is not a string.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        self._set(impath=impath, label=label, domain=domain, classname=classname)


class DatumMT(_Item):
    """One labelled image of one of several tasks: `label` is the class index within task number `task`.

    As in the published SoftCPT code, both may be lists of equal length: the image has a label in each of the tasks.
    """

    _fields = ("impath", "label", "task", "domain", "classname")

    task = property(lambda self: self._task, doc="Number of the task.")

    def __init__(self, impath: str = "", label=0, task=0, domain: int = 0, classname: str = ""):
        self._set(impath=impath, label=label, task=task, domain=domain, classname=classname)


def labels_of(item) -> list[tuple[int, int]]:
    """The (task, label) pairs of an item. An item without a task belongs to task 0."""
    task, label = getattr(item, "task", 0), item.label
    if not isinstance(label, (list, tuple)):
        return [(task[0] if isinstance(task, (list, tuple)) else task, label)]
    tasks = task if isinstance(task, (list, tuple)) else [task] * len(label)
    if len(tasks) != len(label):
        raise ValueError(f"{item.impath}: {len(label)} labels, but {len(tasks)} tasks; expected a task for each label")
    return list(zip(tasks, label, strict=True))


def label_of(item) -> tuple[int, int]:
    """The (task, label) pair of an item that has a single label.

    Raises:
        ValueError: the item has several labels.
    """
    pairs = labels_of(item)
    if len(pairs) != 1:
        raise ValueError(f"{item.impath} has {len(pairs)} labels; expected one label per image")
    return pairs[0]


def one_per_label(items: Iterable) -> list:
    """The items with a single label each: an item whose labels are lists is repeated for each of its labels."""
    listed = []
    for item in items:
        pairs = labels_of(item) if isinstance(item.label, (list, tuple)) else None
        if pairs is None:
            listed.append(item)
        else:
            listed += [DatumMT(item.impath, label, task, item.domain) for task, label in pairs]
    return listed


def relative_path(impath: str, root: str = "") -> str:
    """`impath` relative to `root`, with forward slashes. A path outside `root` is returned whole."""
    if not root:
        return impath.replace(os.sep, "/")
    if impath.startswith(root + "/") and "//" not in impath and "/." not in impath:
        return impath[len(root) + 1 :]  # nearly all paths; the general case takes ten times as long
    path, root = (os.path.abspath(p).replace(os.sep, "/").rstrip("/") for p in (impath, root))
    return path[len(root) + 1 :] if path.startswith(root + "/") else path


def _labelled(items: Iterable | None):
    """(item, task, label) of every label of every item."""
    return ((item, task, label) for item in items or () for task, label in labels_of(item))


def hash_split(splits: Mapping[str, Sequence], root: str = "") -> str:
    """SHA-256 (hex) of the relative paths, tasks and labels in {split name: items}; independent of their order."""
    digest = hashlib.sha256()
    for name, items in splits.items():
        lines = sorted(f"{relative_path(i.impath, root)}\t{task}\t{label}" for i, task, label in _labelled(items))
        digest.update(f"{name} {len(lines)}\n".encode())
        digest.update("\n".join(lines).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class _Base:
    """Shared parts of single-task and multi-task datasets: splits, class list, label checks."""

    dataset_dir = ""  # folder of the dataset below DATASET.ROOT
    domains: Sequence[str] = ()  # names of the domains, if there are several
    image_root = ""  # folder to which image keys are relative; "": DATASET.ROOT
    unknown: Sequence = ()  # test items of a task that are of none of its classes; their label is -1

    _space = _train_x = _train_u = _val = _test = None  # for dataset classes that set some of them and nothing else
    _num_classes, _classnames, _lab2cname = 0, (), {}

    def _set_splits(self, space: TaskSpace, train_x=None, train_u=None, val=None, test=None):
        """Set the space and the splits (items, or None), and check the labels."""
        self._space = space
        self._train_x, self._train_u, self._val, self._test = train_x, train_u, val, test
        self._num_classes, self._classnames = space.num_classes, list(space.classnames)
        self._lab2cname = dict(space.lab2cname)
        self._check_labels()

    # Properties, as in Dassl: datasets of users may override them, and code written for Dassl sets the attributes.
    train_x = property(lambda self: self._train_x, doc="Labelled training items.")
    train_u = property(lambda self: self._train_u, doc="Unlabelled training items, or None.")
    val = property(lambda self: self._val, doc="Validation items, or None.")
    test = property(lambda self: self._test, doc="Test items.")
    num_classes = property(lambda self: self._num_classes, doc="N, number of classes of all tasks.")
    classnames = property(lambda self: self._classnames, doc="N names in column order.")
    lab2cname = property(lambda self: self._lab2cname, doc="{column: class name}.")

    @property
    def space(self) -> TaskSpace:
        """TaskSpace of the data. If the class names were replaced from outside, one task with the new names."""
        known = self._space
        names = tuple(self._classnames or self.classnames)
        if known is not None and names == known.classnames:
            return known
        if known is None or known.num_tasks > 1:
            return TaskSpace.single(names, key=type(self).__name__)
        return TaskSpace((replace(known.tasks[0], classnames=names),))

    @property
    def _splits(self) -> dict[str, Sequence | None]:
        return {"train_x": self._train_x, "train_u": self._train_u, "val": self._val, "test": self._test}

    @cached_property
    def split_hash(self) -> str:
        """Hash of the splits (hex). Datasets that draw few-shot sets from a larger split set the hash of that split."""
        return hash_split(self._splits, self.image_root)

    def _check_labels(self):
        """Check that every task is in the space and every label is a class of its task."""
        tasks = self._space.tasks
        bad, number = [], 0
        for split, items in self._splits.items():
            for item, task, label in _labelled(items):
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
        self._check_one_per_task()
        if number:
            found = "; ".join(bad) + ("; …" if number > len(bad) else "")
            raise ValueError(
                f"{type(self).__name__}: labels missing from the class list on {number} image"
                f"{'s' if number > 1 else ''}. {found}. Correct the split or the class list."
            )

    def _check_one_per_task(self):
        """Check that no item has two labels of one task, unless that is a tagging task."""
        tagging = {t for t, task in enumerate(self._space.tasks) if task.tagging}
        for split, items in self._splits.items():
            for item in items or ():
                if isinstance(item.label, (list, tuple)) and len(item.label) > 1:
                    tasks = [task for task, _ in labels_of(item) if task not in tagging]
                    if twice := [task for task in tasks if tasks.count(task) > 1]:
                        raise ValueError(
                            f"{type(self).__name__}: {split} {item.impath} has several labels of task {twice[0]}; "
                            "expected at most one label per task; a task with the metric mAP may have several"
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

    def download_data(self, url: str, dst: str, from_gdrive: bool = True):
        """Download an archive (zip or tar) to `dst` and unpack it into the folder of `dst`.

        Raises:
            UserError: the server sent something else than the archive, as Google Drive does above its daily limit.
        """
        folder = os.path.dirname(os.path.abspath(dst))
        os.makedirs(folder, exist_ok=True)
        if from_gdrive and (found := re.search(r"(?:/d/|[?&]id=)([\w-]{20,})", url)):
            url = f"https://drive.usercontent.google.com/download?id={found[1]}&export=download&confirm=t"
        download_url_to_file(url, dst)
        if wrong := not_a_download(dst):
            os.unlink(dst)
            raise UserError(f"{url} sent {wrong}; download the file in a browser and save it as {dst}")
        print(f"Unpacking {dst}")
        if zipfile.is_zipfile(dst):
            with zipfile.ZipFile(dst) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(dst) as archive:
                archive.extractall(folder, filter="data")

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
    """A dataset of several tasks. Its items are `DatumMT`; the space of the dataset declares their classes.

    >>> DatasetBaseMT(space, train_x=items, val=None, test=more)
    >>> DatasetBaseMT(taskid2tname, taskid2cname, train_x=items, test=more)  # as in the published SoftCPT code

    Args:
        space: the tasks; or `taskid2tname`, {task: task name}, followed by the other mappings of the published code.
        train_x, train_u, val, test: items, or None.
        taskid2cname: {task: C class names, or {label: class name}}.
        taskid2desc, taskid2metric, taskid2type: {task: description}, {task: metric}, {task: "sl"}, if there are any.

    Raises:
        ValueError: tasks or labels that are not in the space; the text lists the first of them and their number.
        UserError: no tasks are given, or tasks of another type than "sl" (a single label for each image).
    """

    def __init__(self, space=None, *more, train_x=None, train_u=None, val=None, test=None, **named):
        names = [f"taskid2{name}" for name in ("tname", "cname", "desc", "type", "metric")]
        if unknown := named.keys() - set(names):
            raise TypeError(f"{type(self).__name__} takes no argument {min(unknown)!r}")
        if not isinstance(space, TaskSpace):
            given = [part for part in (space, *more) if isinstance(part, Mapping)]
            more = [part for part in more if not isinstance(part, Mapping)]
            space = published_space(dict(zip(names, given, strict=False)) | named, type(self).__name__)
        splits = {"train_x": train_x, "val": val, "test": test}
        if len(more) > len(splits):
            raise TypeError(f"{type(self).__name__} takes train_x, val and test, found {len(more)} lists of items")
        splits.update(zip(splits, more, strict=False))
        self._set_splits(space, train_u=train_u, **splits)

    @property
    def _splits(self):
        splits = super()._splits
        return splits if splits["train_u"] is not None else {k: v for k, v in splits.items() if k != "train_u"}

    @staticmethod
    def split_dataset_by_label(data_source: Iterable) -> dict[tuple, list]:
        """{((task, label), …): items} in order of appearance; an item has one pair unless its labels are a list."""
        output = defaultdict(list)
        for item in data_source:
            output[tuple(labels_of(item))].append(item)
        return output

    # names of the published code: {task: value}
    taskid2tname = property(lambda self: {t: task.name for t, task in enumerate(self.space.tasks)})
    taskid2cname = property(lambda self: {t: task.classnames for t, task in enumerate(self.space.tasks)})
    taskid2desc = property(lambda self: {t: task.description for t, task in enumerate(self.space.tasks)})
    taskid2metric = property(lambda self: {t: task.metric for t, task in enumerate(self.space.tasks)})
    taskid2type = property(lambda self: dict.fromkeys(range(self.space.num_tasks), "sl"))  # a single label per image
