"""What is odd about a dataset that could be read, found without decoding an image: `datasets.doctor.report` says it.

Some of it is an error (no image to test on, files that are no images), some a warning, some a note.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from dassl.data.images import read_header
from dassl.utils.texts import counted
from datasets import splits
from datasets.doctor import mistakes
from datasets.doctor.mistakes import Mistake
from datasets.doctor.published import IMAGES
from datasets.folders import listing, q, some
from datasets.known.row import Row
from datasets.source import SPLITS, Source

SAMPLE = 24  # images of a dataset whose first bytes are looked at
HEADERS = 5_000  # of no more images are all headers read before a split is made of them


# ---- classes and tasks ---------------------------------------------------------------------------------------------


def tested(source: Source) -> set[int]:
    """The tasks that have test images."""
    return {item.task for item in source.test}


def untested(keys: Sequence[str]) -> str:
    """The text for tasks without a test image."""
    return (
        f"no image to test on: {some(keys)}; add images (of two in a class one is for the test), or train without a "
        "test: TEST.NO_TEST True"
    )


def gaps(source: Source, tasks: Collection[int]) -> list[str]:
    """Warnings of classes without an image to train on or to test on, where others of their task have some."""
    found = []
    for part, what in (("train", "training"), ("test", "test")):
        there = {(item.task, item.label) for item in getattr(source, part)}
        begun = {task for task, _ in there}
        for i in tasks:
            names = source.tasks[i].classnames if i in begun else ()
            lacking = [name for label, name in enumerate(names) if (i, label) not in there]
            of = f" of {source.tasks[i].key}" if len(source.tasks) > 1 else ""
            if lacking:
                found.append(f"WARNING: no {what} image of {counted(len(lacking), 'class')}{of}: {some(lacking)}")
    return found


# ---- files ---------------------------------------------------------------------------------------------------------


def sample(source: Source, place: Path, name: str, root: str) -> Mistake | None:
    """Files that are no images at all, among `SAMPLE` images from all over the dataset."""
    if not os.path.isdir(source.root):
        return None  # an archive that is read in place
    items = [item for split in SPLITS for item in _spread(getattr(source, split), SAMPLE // len(SPLITS))]
    deep = f"python -m datasets.check {name} --root {q(root)} --deep   # lists all of them" if root else ""
    return mistakes.saved_instead((Path(source.root, item.path) for item in items), "images", place, deep)


def _spread(items: list, count: int) -> list:
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else items


def headers(source: Source) -> tuple[list[str], list[str]]:
    """([a line for each image whose header cannot be read], notes on images that EXIF turns), of small datasets.

    For when a split is made: what cannot be read should not become a part of it.
    """
    items = [(part, f"{source.root}/{item.path}") for part in SPLITS for item in getattr(source, part)]
    if len(items) > HEADERS:
        return [], []
    seen = [(part, path, *read_header(path)) for part, path in items]
    turned = sum(turn for *_, turn in seen)
    text = "stored lying down or mirrored, which their EXIF data note: INPUT.EXIF_ROTATE True turns them upright"
    notes = [f"{counted(turned, 'photograph')} {text}"] if turned else []
    return [f"{part} {path}: {wrong}" for part, path, wrong, _ in seen if wrong], notes


def unexpected(row: Row, place: Path, source: Source) -> list[str]:
    """Folders in `place`, the dataset's own, that nothing is read from."""
    skip = len("/".join(part for part in (row.folder, row.images) if part)) + 1
    used = {item.path[skip:].partition("/")[:2] for split in SPLITS for item in getattr(source, split)}
    known = {top for top, slash in used if slash} | {*row.skip}
    known |= {folder[len(row.images) + 1 :].split("/")[0] for folder in row.image_folders}
    extra = [folder for folder in listing(place / row.images)[0] if folder not in known] if row.images else []
    return [f"unexpected folders, not used: {some(f'{row.images}/{folder}' for folder in extra)}"] if extra else []


def fewer(row: Row, source: Source, run: bool = False) -> list[str]:
    """Fewer images than were published. In a `run` that saves a split of them it is a warning: the split stays."""
    total, published = sum(len(getattr(source, part)) for part in SPLITS), IMAGES.get(row.name, 0)
    making, file = run and source.save is not None, splits.fixed_name(row.name)
    if total >= (published if making else 0.9 * published):
        return []
    text = f"{counted(total, 'image')}, the published dataset has {published:,}: is everything unpacked?"
    if making:
        text = f"WARNING: {text} The split is made of what is there and stays: delete {file} if more comes"
    elif source.split_from == file:
        text += f" If it is by now, delete {file} to have the split made anew"
    return [text]
