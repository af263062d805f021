"""A dataset that has been read, as plain values: its tasks and its split."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import NamedTuple

from dassl.data.tasks import Task

SPLITS = ("train", "val", "test")


class Item(NamedTuple):
    """One image of a split.

    Attributes:
        path: relative to the source's `root`, with forward slashes; the key by which the image is drawn.
        label: index of the class within the task.
        task: index of the task within the source.
        domain: index of the image's domain (0 where a dataset has only one).
    """

    path: str
    label: int
    task: int = 0
    domain: int = 0


@dataclass
class Raw:
    """The result of a reader: the class names of each task, in the order of labels, and the pools of images."""

    classnames: list[tuple[str, ...]]
    pools: dict[str, list[Item]]
    task_names: list[str] = field(default_factory=list)  # if the data contain names of their tasks
    listed: bool = False  # whether the images come from listings of folders and thus exist


@dataclass
class Source:
    """A dataset that has been read. The path of an image is `root` + the path of its item.

    Attributes:
        name: the dataset.
        root: folder or archive that contains the images.
        tasks: the tasks; their numbers depend on the suite.
        train, val, test: the split.
        split_from: origin of the split in words, i.e. a file or a rule.
        domains: names of the domains; () if there is only one.
        save: saves a split that had to be made; None if there is nothing to save.
    """

    name: str
    root: str
    tasks: list[Task]
    train: list[Item] = field(default_factory=list)
    val: list[Item] = field(default_factory=list)
    test: list[Item] = field(default_factory=list)
    split_from: str = ""
    domains: tuple[str, ...] = ()
    save: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def several(self) -> bool:
        """Whether an image has several labels, i.e. several items with one path."""
        if len(self.tasks) == 1 and not self.tasks[0].tagging:
            return False
        lists = (getattr(self, split) for split in SPLITS)
        return any(len({item.path for item in items}) < len(items) for items in lists)

    def with_tags(self, part: str, places: Iterable[int]) -> set[int]:
        """Places in the list `part`, and those of all further classes of their images in tagging tasks."""
        items, found = getattr(self, part), set(places)
        tagging = {t for t, task in enumerate(self.tasks) if task.tagging}
        images = {(items[place].path, items[place].task) for place in found if items[place].task in tagging}
        return found | {place for place, item in enumerate(items) if images and (item.path, item.task) in images}

    def split_digest(self, task: int) -> str:
        """SHA-256 over class names, paths and labels of all splits of one task. Independent of the data root."""
        digest = hashlib.sha256(repr((self.tasks[task].key, self.tasks[task].classnames)).encode())
        text = cache(str)
        for split in SPLITS:
            items = [item for item in getattr(self, split) if item.task == task]
            items.sort(key=lambda item: text(item.label))
            items.sort(key=lambda item: item.path)  # ordered by "path, label" without creating a million texts
            digest.update(f"\n[{split}]\n".encode())
            for start in range(0, len(items), 4096):
                lines = "\n".join(f"{item.path}\t{item.label}" for item in items[start : start + 4096])
                digest.update(("\n" * (start > 0) + lines).encode())
        return digest.hexdigest()


class Places:
    """For each image of a list, its place in the split of its dataset, as a text for messages. 4 bytes per image.

    Args:
        part: part of the split: "train", "val" or "test".
    """

    def __init__(self, part: str):
        self.part = part
        self._numbers = array("I")
        self._runs: list[tuple[int, str]] = []  # (first image of a run of images, name of its split)

    def add(self, source: Source, places: Sequence[int], part: str = "") -> None:
        """Append images of a source, given by their indices in the source's list of `part`, by default this part."""
        file = f" in {source.split_from}" if source.split_from.startswith("split_") else ""
        self._runs.append((len(self._numbers), f"of {part or self.part}{file} of {source.name}"))
        self._numbers.extend(places)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> str:
        run = bisect_right(self._runs, index, key=lambda run: run[0]) - 1
        return f"entry {self._numbers[index] + 1} {self._runs[run][1]}"
