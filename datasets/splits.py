"""Splits into train, validation and test: published split files are read; without one a documented rule divides.

Split files, in the order in which they are searched for in a dataset's folder:

- `split_dk_*.json` (SoftCPT): {train, val, test: [[path, [label], [task]], …], meta: {taskid2cname, taskid2tname, …}}
- `split_zhou_*.json` (CoOp):  {train, val, test: [[path, label, class name], …]}
- `split_fixed_<Name>.json`:   ours, written once when a rule has divided the data

The rules rank images by a hash of their path and a seed of their own. The split is thus the same on every machine and
in every run, whatever the run's seed and the order of a folder listing.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from dassl.utils import atomic_write, counted, open_file
from datasets.fewshot import rank
from datasets.folders import are
from datasets.source import SPLITS, Item, Raw

T = TypeVar("T")
SPLIT_SEED = 1  # seed of the rules; never the run's seed
FORMAT = 1
SHOWN = 3  # number of wrong entries named in an error

RULES = {
    "per-class": "per class (and per part, where the data come in parts): 50 % train, 20 % validation, 30 % test",
    "per-task": "per task: 50 % train, 20 % validation, 30 % test",
    "official-test": "the published test list; of the published training list 80 % train, 20 % validation per class",
    "official": "the published lists",
    "test-only": "everything is for testing",
}
SAVED_NOWHERE = ("official", "test-only")  # rules that draw nothing: their split is not saved


@dataclass
class Split:
    """A split with the class names of its tasks; names, descriptions and metrics of tasks only if the file has them."""

    classnames: list[tuple[str, ...]]
    train: list[Item]
    val: list[Item]
    test: list[Item]
    task_names: dict[int, str] = field(default_factory=dict)
    descriptions: dict[int, str] = field(default_factory=dict)
    metrics: dict[int, str] = field(default_factory=dict)


# ---- rules -------------------------------------------------------------------------------------------------------


def by_rule(raw: Raw, rule: str) -> Split:
    """Divide a reader's pools by one of `RULES`, given as its key. An image of several classes counts as its rarest."""
    split = Split(raw.classnames, [], [], [], dict(enumerate(raw.task_names)))
    if rule in SAVED_NOWHERE:  # the pools are the splits; validation and training may be missing
        split.train, split.val, split.test = (raw.pools.get(part, []) for part in SPLITS)
    elif rule == "official-test":
        pool = raw.pools["train"]
        split.val, split.train = _divide_images(pool, lambda n: [round(0.2 * n)], lambda item: item.label)
        split.test = raw.pools["test"]
    else:
        group = {"per-class": lambda item: (item.task, item.label), "per-task": lambda item: item.task}[rule]
        for pool in raw.pools.values():
            parts = _divide_images(pool, lambda n: [round(0.5 * n), round(0.2 * n)], group)
            for name, items in zip(SPLITS, parts, strict=True):
                getattr(split, name).extend(items)
    if rule not in SAVED_NOWHERE:
        for part in SPLITS:
            getattr(split, part).sort()  # as in the saved file, so that the number of an image in its split stays
    return split


def _divide_images(
    items: Sequence[Item], sizes: Callable[[int], Sequence[int]], group: Callable[[Item], Hashable]
) -> list[list[Item]]:
    """`divide` images; all items of one path stay together, in the group of the item that is rarest."""
    count, images = Counter(map(group, items)), defaultdict(list)
    for item in items:
        images[item.path].append(item)
    rarest = [min(own, key=lambda item: (count[group(item)], item)) for own in images.values()]
    parts = divide(rarest, sizes, group, attrgetter("path"))
    return [[item for one in part for item in images[one.path]] for part in parts]


def divide(
    items: Sequence[T], sizes: Callable[[int], Sequence[int]], group: Callable[[T], Hashable], path: Callable[[T], str]
) -> list[list[T]]:
    """Rank each group of n items by a hash of their paths and cut it into parts of `sizes(n)` items, and the rest."""
    groups = defaultdict(list)
    for item in items:
        groups[group(item)].append(item)
    parts: list[list[T]] = [[] for _ in range(len(sizes(0)) + 1)]
    for members in groups.values():
        members.sort(key=lambda item: (rank(f"split{SPLIT_SEED}", path(item)), path(item)))
        stops = [*accumulate(sizes(len(members)), initial=0), len(members)]
        for part, (start, stop) in zip(parts, pairwise(stops), strict=True):
            part += members[start:stop]
    return parts


# ---- files -------------------------------------------------------------------------------------------------------


def fixed_name(name: str) -> str:
    """Name of the split file that this project writes for the dataset `name`."""
    return f"split_fixed_{name}.json"


def write_fixed(path: Path, name: str, rule: str, split: Split, start: int = 0) -> None:
    """Save a split made by a rule, atomically. The first `start` characters of each path are left out."""
    content = {
        "format": FORMAT,
        "dataset": name,
        "rule": RULES[rule],
        "seed": SPLIT_SEED,
        "classnames": split.classnames,
        "task_names": [split.task_names[i] for i in sorted(split.task_names)],
        **{part: [(item.path[start:], *item[1:3]) for item in getattr(split, part)] for part in SPLITS},
    }
    with atomic_write(str(path), "w") as file:
        json.dump(content, file, ensure_ascii=False)


def read_split(path: Path, tasks: int) -> Split:
    """Read a split file of any of the three kinds.

    Args:
        path: the file.
        tasks: number of tasks the dataset has.

    Raises:
        ValueError: not a split file, or labels that contradict the class names.
    """
    try:
        with open_file(path, encoding="utf-8") as file:
            content = json.load(file)
        parts = {part: list(content[part]) for part in SPLITS}
        if odd := [entry for part in SPLITS for entry in parts[part] if not isinstance(entry[0], str)]:
            raise TypeError(f"expected a path at the beginning of {odd[0]}")
        if "meta" in content:
            return _read_dk(content["meta"], parts, tasks)
        if "classnames" in content:
            names = [tuple(task) for task in content["classnames"]]
            split = Split(names, *([Item(p, int(c), int(t)) for p, c, t in parts[part]] for part in SPLITS))
            split.task_names = dict(enumerate(content.get("task_names", ())))
            return split
        if tasks != 1:
            raise TypeError("a split with several tasks needs `meta`")
        split = Split([()], *([Item(entry[0], int(entry[1])) for entry in parts[part]] for part in SPLITS))
        names = [(int(entry[1]), str(entry[2]), entry[0]) for part in SPLITS for entry in parts[part]]
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} is not a split file of a known kind ({text}); expected {{train, val, test: [[path, label, class "
            f"name], …]}} or [[path, [label], [task]], …] with meta. Download it again, or delete it to create "
            "a new split."
        ) from None
    split.classnames = [_zhou_classnames(path, names)]
    return split


def _zhou_classnames(path: Path, found: list[tuple[int, str, str]]) -> tuple[str, ...]:
    """Class names from (label, name, image) of every image. Each label must have exactly one name; gaps are errors."""
    names: dict[int, str] = {}
    for label, name, image in found:
        if names.setdefault(label, name) != name:
            raise ValueError(f"{path}: label {label} has two names, {names[label]!r} and {name!r} (at {image})")
    gap = next((label for label in range(len(names)) if label not in names), None)
    if gap is not None:
        raise ValueError(f"{path}: {len(names)} classes, but no image has label {gap}; download the file again")
    return tuple(names[label] for label in range(len(names)))


def _read_dk(meta: dict[str, Any], parts: dict[str, list], tasks: int) -> Split:
    def items(entries):
        return [Item(image, *pair) for image, label, task in entries for pair in _pairs(image, label, task)]

    names = _by_number(meta["taskid2cname"])
    if len(names) != tasks:
        raise TypeError(f"expected the class names of {tasks} tasks, found those of {len(names)}")
    classnames = [tuple(v for _, v in sorted(_by_number(names[task]).items())) for task in range(tasks)]
    split = Split(classnames, *(items(parts[part]) for part in SPLITS))
    split.task_names = _by_number(meta.get("taskid2tname") or {})
    split.descriptions = _by_number(meta.get("taskid2desc") or {})
    split.metrics = _by_number(meta.get("taskid2metric") or {})
    return split


def _pairs(image: str, label: int | list[int], task: int | list[int]) -> list[tuple[int, int]]:
    """The (label, task) pairs of an image. Each may be a number or a list; a label of -1 is missing."""
    labels, tasks = (value if isinstance(value, list) else [value] for value in (label, task))
    if len(labels) != len(tasks):
        raise TypeError(f"expected as many labels as tasks of {image}, found {labels} and {tasks}")
    return [(int(label), int(task)) for label, task in zip(labels, tasks, strict=True) if int(label) != -1]


def _by_number(values: dict | list) -> dict[int, Any]:
    """JSON's {"0": a, "1": b} or [a, b] as {0: a, 1: b}."""
    return {int(k): v for k, v in values.items()} if isinstance(values, dict) else dict(enumerate(values))


# ---- checks ------------------------------------------------------------------------------------------------------


def check_labels(where: str, split: Split) -> None:
    """Raise ValueError with the number of images whose task or label is not in the class list, and the first ones."""
    bad = []
    for part in SPLITS:
        for item in getattr(split, part):
            if not 0 <= item.task < len(split.classnames):
                bad.append(f"{part} {item.path}: task {item.task} of {len(split.classnames)}")
            elif not 0 <= item.label < len(split.classnames[item.task]):
                bad.append(f"{part} {item.path}: label {item.label} of {len(split.classnames[item.task])} classes")
    if bad:
        raise ValueError(
            f"{where}: {counted(len(bad), 'image')} with a label that is not in the class list: {_first(bad)}"
        )


def check_once(where: str, split: Split, tagging: Collection[int] = ()) -> None:
    """Raise ValueError with the number of images in two splits or with two labels of one task, and the first ones.

    Images may have several labels of the tasks `tagging`.
    """
    seen: dict[tuple[int, str], tuple[str, int]] = {}
    bad = []
    for part in SPLITS:
        for item in getattr(split, part):
            other, label = seen.setdefault((item.task, item.path), (part, item.label))
            if other != part:
                bad.append(f"{item.path} in {other} and {part}")
            elif label != item.label and item.task not in tagging:
                bad.append(f"{item.path} in {part} with the labels {label} and {item.label}")
    if bad:
        raise ValueError(
            f"{where}: {counted(len(bad), 'image')} in more than one split or with several labels, which makes "
            f"results invalid: {_first(bad)}. Download the file again, or delete it to create a new split; only a task "
            "with METRIC mAP may have several labels per image."
        )


def check_files(where: str, images: Path, split: Split) -> None:
    """Raise FileNotFoundError with the number of images of the split that are not below `images`, and the first ones.

    Every folder is listed once; files are not opened.
    """
    wanted = defaultdict(list)
    total = 0
    for part in SPLITS:
        paths = (item.path for item in getattr(split, part))
        for path in dict.fromkeys(paths) if len(split.classnames) > 1 else paths:  # an image may have several labels
            folder, _, name = path.rpartition("/")
            wanted[folder].append(name)
            total += 1
    gone = []
    for folder, names in sorted(wanted.items()):
        try:
            there = set(os.listdir(f"{images}/{folder}"))  # not pathlib: the path "/x" is below `images` too
        except (FileNotFoundError, NotADirectoryError):
            there = set()
        gone += [f"{folder}/{name}".lstrip("/") for name in names if name not in there]
    if gone:
        raise FileNotFoundError(
            f"{where}: {len(gone):,} of {total:,} images of the split {are(len(gone))} not in {images}: "
            f"{_first(gone)}. Unpack the images again, or use the split file that belongs to them."
        )


def _first(found: list[str]) -> str:
    return "; ".join(found[:SHOWN]) + ("; …" if len(found) > SHOWN else "")
