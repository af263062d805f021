"""The images of a dataset that a few-shot file lists (`datasets.fewshot_files`)."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dassl.utils import UserError, counted
from datasets.classnames import in_words
from datasets.fewshot_files import Entry, read_entries
from datasets.folders import are, some
from datasets.known.row import Row
from datasets.source import SPLITS, Item, Source


class Place(NamedTuple):
    """An image of a dataset: its index in the list `part` of the dataset's split."""

    part: str
    index: int


@dataclass(frozen=True)
class Chosen:
    """The images that a file chooses from a dataset.

    Attributes:
        train: training images, sorted by path; an image that is listed twice is there twice.
        val: validation images; None if the file lists none.
        shots: the most training images of any class.
    """

    train: tuple[Place, ...]
    val: tuple[Place, ...] | None
    shots: int

    def places(self, source: Source, split: str, task: int, labels: Container[int]) -> dict[str, list[int]]:
        """The images of one task with the given labels: {part of the split of `source`: indices in it}."""
        found: dict[str, list[int]] = defaultdict(list)
        for place in self.train if split == "train" else self.val or ():
            item = getattr(source, place.part)[place.index]
            if item.task == task and item.label in labels:
                found[place.part].append(place.index)
        return found


def choose(path: Path, source: Source, row: Row | None, shots: int) -> Chosen:
    """Find the images that a file lists in a dataset.

    Args:
        path: the file.
        source: the dataset.
        row: the row of the dataset, which says how class names of the data differ from those of prompts; or None.
        shots: DATASET.NUM_SHOTS; below 1, the file decides.

    Raises:
        UserError: images that the dataset does not have, that are test images, or that are in both lists; labels that
            contradict the dataset; another number of shots than the file has.
    """
    entries = read_entries(path)
    finder = _Finder(path, source, row.rename if row else {}, entries)
    found = {part: finder.places(part) for part in entries}
    finder.report()
    train, val = found["train"], found.get("val")
    if source.several:
        train, val = _with_tags(source, train), val and _with_tags(source, val)
    if both := sorted(set(train) & set(val or ())):
        names = [getattr(source, place.part)[place.index].path for place in both]
        raise UserError(f"{path}: {counted(len(both), 'image')} in both train and val: {some(names)}")
    most = _check_shots(path, source, train, shots)
    return Chosen(_sorted(source, train), None if val is None else _sorted(source, val), most)


def _with_tags(source: Source, places: Sequence[Place]) -> list[Place]:
    """The places, each once, and those of all further classes of their images in tagging tasks."""
    parts = {place.part: [own.index for own in places if own.part == place.part] for place in places}
    return [Place(part, index) for part, own in parts.items() for index in source.with_tags(part, own)]


def _sorted(source: Source, places: Sequence[Place]) -> tuple[Place, ...]:
    return tuple(sorted(places, key=lambda place: getattr(source, place.part)[place.index]))


def _check_shots(path: Path, source: Source, train: Sequence[Place], shots: int) -> int:
    """The most images of a class. Raises UserError if DATASET.NUM_SHOTS is another number.

    Where images have several labels, classes may have more images than DATASET.NUM_SHOTS, which is returned then.
    """
    counts = Counter((item.task, item.label) for p in train for item in (getattr(source, p.part)[p.index],))
    most = max(counts.values())
    full = max(Counter((item.task, item.label) for item in source.train).values(), default=0)
    if source.several and most > shots >= 1:
        return shots
    if most > shots >= 1 or most < min(shots, full):
        raise UserError(
            f"{path} lists {most} training images per class, and DATASET.NUM_SHOTS is {shots}; set it to {most}, or "
            "choose another file"
        )
    return most


class _Finder:
    """Finds listed images among the images of a dataset, and collects what is wrong."""

    def __init__(self, path: Path, source: Source, rename: Mapping[str, str], entries: Mapping[str, list[Entry]]):
        self.path, self.source = path, source
        self.gone: list[str] = []
        self.tested: list[str] = []
        self.wrong: list[str] = []
        self.names = [_known_names(task.classnames, rename) for task in source.tasks]
        listed = [entry.image for part in entries.values() for entry in part if isinstance(entry.image, str)]
        files = {image.replace("\\", "/").rpartition("/")[2] for image in listed}
        self.by_file: dict[str, list[Place]] = defaultdict(list)
        for part in SPLITS if files else ():
            for index, item in enumerate(getattr(source, part)):
                if (file := item.path.rpartition("/")[2]) in files:
                    self.by_file[file].append(Place(part, index))
        ends = [end(items).path for part in SPLITS if (items := getattr(source, part)) for end in (min, max)]
        common = os.path.commonprefix(ends).rpartition("/")[0]
        self.above = common.count("/") + 1 if common else 0  # folders that all images have in common
        self.entries = entries

    def item(self, place: Place) -> Item:
        return getattr(self.source, place.part)[place.index]

    def places(self, part: str) -> list[Place]:
        """The places of one list of the file."""
        found = []
        for entry in self.entries[part]:
            places = self._positions(entry.image, part) if isinstance(entry.image, int) else self._paths(entry.image)
            if not places:
                self.gone.append(str(entry.image))
            elif not (usable := [place for place in places if place.part != "test"]):
                self.tested.append(self.item(places[0]).path)
            elif agree := [place for place in usable if self._agrees(self.item(place), entry)]:
                found += agree
            else:
                self.wrong.append(self._contradiction(self.item(usable[0]), entry))
        return found

    def _positions(self, number: int, part: str) -> list[Place]:
        """The image at a position of the split file, whose order only published splits keep."""
        if not self.source.split_from.startswith("split_zhou_"):
            raise UserError(
                f"{self.path} lists positions in CoOp's split file, and the split of {self.source.name} comes from: "
                f"{self.source.split_from}. Put split_zhou_{self.source.name}.json into the dataset's folder: "
                f"python -m datasets.download {self.source.name}"
            )
        return [Place(part, number)] if 0 <= number < len(getattr(self.source, part)) else []

    def _paths(self, image: str) -> list[Place]:
        """The images with the longest common end of their paths, if it reaches to the folder of all images."""
        wanted = [name for name in image.replace("\\", "/").split("/") if name not in ("", ".")]
        best, found = 0, []
        for place in self.by_file.get(wanted[-1] if wanted else "", ()):
            own = self.item(place).path.split("/")
            common = next(
                (i for i, (a, b) in enumerate(zip(own[::-1], wanted[::-1], strict=False)) if a != b),
                min(len(own), len(wanted)),
            )
            if common < min(len(own) - self.above, len(wanted)):
                continue
            if common > best:
                best, found = common, []
            found += [place] if common == best else []
        return found if len({self.item(place).path for place in found}) == 1 else []

    def _agrees(self, item: Item, entry: Entry) -> bool:
        if entry.label is not None and entry.label != item.label:
            return False
        named = self.names[item.task].get(_plain(entry.name)) if entry.name else item.label
        return named == item.label or (named is None and entry.label is not None)

    def _contradiction(self, item: Item, entry: Entry) -> str:
        names = self.source.tasks[item.task].classnames
        listed = " ".join(filter(None, ("" if entry.label is None else str(entry.label), entry.name)))
        return f"{item.path} is {item.label} ({names[item.label]}), listed as {listed}"

    def report(self) -> None:
        """Raise UserError about all images that cannot be used."""
        total = sum(map(len, self.entries.values()))
        name, origin = self.source.name, self.source.split_from
        problems = []
        if self.gone:
            number = len(self.gone)
            problems.append(
                f"{number:,} of {total:,} images {are(number)} not among the images of {name}: {some(self.gone)}"
            )
        if self.tested:
            number = len(self.tested)
            problems.append(
                f"{counted(number, 'image')} {are(number)} for testing in the split of {name} ({origin}): "
                f"{some(self.tested)}; use the split that the file was made for, e.g. split_zhou_{name}.json"
            )
        if self.wrong:
            number = len(self.wrong)
            verb = "contradicts" if number == 1 else "contradict"
            problems.append(f"{number:,} of {total:,} labels {verb} {name}: {some(self.wrong)}")
        if problems:
            raise UserError(f"{self.path}: {'; '.join(problems)}")


def _known_names(classnames: Sequence[str], rename: Mapping[str, str]) -> dict[str, int]:
    """{class name, as in prompts or as in the data: label}."""
    labels = {_plain(name): label for label, name in enumerate(classnames)}
    for given, name in rename.items():
        if (label := labels.get(_plain(name))) is not None:
            labels.setdefault(_plain(given), label)
    return labels


def _plain(name: str) -> str:
    return in_words(name).lower()
