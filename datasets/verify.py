"""Checks of a dataset that has been read, without decoding an image: faults stop a run, warnings and notes do not."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from dassl.data.images import read_header
from dassl.utils import UserError, counted
from dassl.utils.tools import not_a_download
from datasets import splits
from datasets.folders import some
from datasets.known.row import Row
from datasets.source import SPLITS, Source

SAMPLE = 24  # number of images of a dataset whose first bytes are looked at
HEADERS = 5_000  # datasets of at most so many images have all headers read before a split is made


class Findings(NamedTuple):
    """What was found out about a dataset.

    Attributes:
        problem: what makes it unusable, "" if nothing does.
        bad: a line for each image with an unreadable header, if a split of own data has to be made.
        notes: warnings, which begin with WARNING, and notes.
    """

    problem: str
    bad: list[str]
    notes: list[str]


def findings(source: Source, tasks: Collection[int], row: Row | None, making: bool = False) -> Findings:
    """Look at a dataset that has been read.

    Args:
        source: the dataset.
        tasks: indices of the tasks whose classes are looked at.
        row: its row, None for own data and the embedded suite.
        making: whether a split that has to be made will be saved.
    """
    problem, bad, notes = not_images(source), [], gaps(source, tasks)
    if row is not None:
        notes += fewer(row, source, making and source.save is not None)
    elif source.save and not problem:
        bad, turned = headers(source)
        notes += turned
        if bad:
            files = counted(len(bad), "file")
            problem = f"{files} that cannot be read; no split is made before they are fixed or removed"
    return Findings(problem, bad, notes)


def not_images(source: Source) -> str:
    """What is wrong if files among `SAMPLE` images from all over the dataset are not images; "" if they are."""
    if not os.path.isdir(source.root):
        return ""  # an archive that is read in place
    looked, wrong = 0, []
    for split in SPLITS:
        items = getattr(source, split)
        count = min(len(items), SAMPLE // len(SPLITS))
        for i in range(count):
            path = Path(source.root, items[i * len(items) // count].path)
            looked += 1
            try:
                reason = not_a_download(path)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
            except UserError as error:  # a pipe or a device
                reason = str(error).removeprefix(f"{path}: ")
            wrong += [f"{path}: {reason}"] if reason else []
    if not wrong:
        return ""
    remedy = "run `git lfs pull` in that folder" if "LFS" in wrong[0] else "download or unpack them again"
    return f"{len(wrong)} of {looked} images looked at are not images, e.g. {wrong[0]}; {remedy}"


def headers(source: Source) -> tuple[list[str], list[str]]:
    """([a line for each image whose header cannot be read], notes on images that EXIF turns), of small datasets.

    For use before a split is made, so that unreadable files do not become a part of it.
    """
    items = dict.fromkeys((part, f"{source.root}/{item.path}") for part in SPLITS for item in getattr(source, part))
    if len(items) > HEADERS:
        return [], []
    seen = [(part, path, *read_header(path)) for part, path in items]
    turned = sum(turn for *_, turn in seen)
    text = "stored lying down or mirrored according to EXIF: INPUT.EXIF_ROTATE True turns them upright"
    notes = [f"{counted(turned, 'photograph')} {text}"] if turned else []
    return [f"{part} {path}: {wrong}" for part, path, wrong, _ in seen if wrong], notes


def tested(source: Source) -> set[int]:
    """Indices of the tasks that have test images."""
    return {item.task for item in source.test}


def no_test_image(keys: Sequence[str]) -> str:
    """The message about tasks without a test image."""
    return (
        f"no image to test on: {some(keys)}; add images (of two per class one is for the test), or train without a "
        "test: TEST.NO_TEST True"
    )


def gaps(source: Source, tasks: Collection[int]) -> list[str]:
    """Warnings about classes without a training or test image, in tasks that have training or test images."""
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


def fewer(row: Row, source: Source, making: bool) -> list[str]:
    """A note if there are fewer images than published; a warning if a split of them is being made, since it stays."""
    total, file = sum(len(getattr(source, part)) for part in SPLITS), splits.fixed_name(row.name)
    if total >= (row.published_images if making else 0.9 * row.published_images):
        return []
    text = f"{counted(total, 'image')}, the published dataset has {row.published_images:,}: is everything unpacked?"
    if making:
        text = f"WARNING: {text} The split is made of these images and stays: delete {file} if more are added"
    elif source.split_from == file:
        text += f" If it is by now, delete {file} to create a new split"
    return [text]
