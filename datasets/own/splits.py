"""Divide the user's own images into training, validation and test images. Parts that the data give are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dassl.utils import UserError, atomic_write, counted, open_file
from datasets.folders import are, some
from datasets.own.forms import Listing, Rows
from datasets.source import SPLITS
from datasets.splits import SPLIT_SEED, divide

FORMAT = 1

# Rules for missing parts: {name of the missing part, or "all": the rule in words}.
RULES = {
    "all": "per class: 50 % train, 20 % validation, 30 % test",
    "val": "the given test images; of the given training images per class 80 % train, 20 % validation",
    "test": "the given validation images; of the given training images per class 70 % train, 30 % test",
}


def own_split(
    name: str, listing: Listing, file: Path | None = None
) -> tuple[dict[str, Rows], str, Callable[[], None] | None]:
    """Divide a listing.

    Args:
        name: of the task; a created split is saved as split_own_<name>.json beside the images.
        listing: the images; notes are added to it.
        file: a split file, which replaces the parts that the data give.

    Returns:
        ({part: [(path, label)]}, the origin of the split in words, a function that saves a created split or None).

    Raises:
        UserError: no image to train or test on, or a split file that contradicts the data.
        FileNotFoundError: images of the split file that do not exist.
    """
    parts = {part: list(listing.parts.get(part, ())) for part in SPLITS}
    pool = list(listing.parts.get(None, ()))
    if file:
        made = _by_file(name, file, pool + [row for rows in parts.values() for row in rows], listing, "")
        if not made["test"]:
            raise UserError(f"{name}: {file} has no image to test on; expected some under test")
        return made, str(file), None
    if not pool and not parts["train"] and not parts["test"]:
        raise UserError(f"{name} ({listing.where}): found only validation images, expected some to train or test on")
    if not pool and parts["test"] and (parts["val"] or not parts["train"]):
        return parts, str(listing.where), None
    rule = "val" if parts["test"] else "test" if parts["val"] else "all"
    pool, parts["train"] = pool or parts["train"], []
    file, save = listing.folder / f"split_own_{name}.json", None
    if file.is_file():
        remedy = f", or delete {file} to create a new split"
        made, words = _by_file(name, file, pool, listing, remedy), file.name
        if not parts["test"] and not made["test"]:  # the file was made while the data had test images of their own
            raise UserError(f"{name}: neither {listing.where} nor {file} has images to test on; put them back{remedy}")
    else:
        made, words = by_rule(pool, rule), RULES[rule]
        save = partial(_save, name, file, words, made)
    return {part: parts[part] + made[part] for part in SPLITS}, words, save


def by_rule(pool: Rows, rule: str) -> dict[str, Rows]:
    """Divide `pool` by one of `RULES`, ordering images by a hash of their paths.

    Every class gets an image to train on, and every class of at least two images one to test on (rule "val": none).
    """
    parts = divide(pool, lambda count: _shares(count, rule), lambda row: row[1], lambda row: row[0])
    return dict(zip(SPLITS, parts, strict=True))


def _shares(count: int, rule: str) -> tuple[int, int]:
    """(training, validation) images of a class with `count` images; the remaining ones are test images."""
    if rule == "val":
        val = round(0.2 * count)
        return count - val, val
    if rule == "test":
        return count - (max(round(0.3 * count), 1) if count > 1 else 0), 0
    train, val = max(round(0.5 * count), 1), round(0.2 * count)
    if count > 1 and train + val == count:  # of three images two would train and one validate
        val -= 1
    return train, val


def _by_file(name: str, file: Path, pool: Rows, listing: Listing, remedy: str) -> dict[str, Rows]:
    """Divide `pool` by {train, val, test: [path, or a list that begins with one]}; the file's labels are ignored.

    `remedy` says in messages how to create another split.
    """
    try:
        with open_file(file, encoding="utf-8") as stream:
            content = json.load(stream)
        entries = [(entry if isinstance(entry, str) else str(entry[0]), p) for p in SPLITS for entry in content[p]]
    except (ValueError, AttributeError, TypeError, IndexError, KeyError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{file} is not a split file ({text}); expected {{train, val, test: [path, …]}}{remedy}"
        ) from None
    part_of, labels = dict(entries), dict(pool)
    if twice := len(entries) - len(part_of):
        raise UserError(f"{file} names {counted(twice, 'image')} more than once; expected one part each")
    if gone := [path for path in part_of if path not in labels]:
        raise FileNotFoundError(
            f"{name}: {len(gone):,} of {len(part_of):,} images of {file} {are(len(gone))} missing from "
            f"{listing.where}: {some(gone)}; put them back{remedy or ', or correct the file'}"
        )
    new = [path for path in labels if path not in part_of]
    if lost := sorted({labels[path] for path in new} - {labels[path] for path in part_of}):
        raise UserError(f"{name}: {file} has no image of the classes {some(lost)}; add some{remedy}")
    if new:
        listing.notes.append(f"left out: {counted(len(new), 'image')} missing from {file.name} ({some(new)}){remedy}")
    return {part: [(path, labels[path]) for path, own in part_of.items() if own == part] for part in SPLITS}


def _save(name: str, file: Path, words: str, parts: dict[str, Rows]) -> None:
    content = {"format": FORMAT, "task": name, "rule": words, "seed": SPLIT_SEED}
    content.update({part: sorted(path for path, _ in parts[part]) for part in SPLITS})
    counts = ", ".join(f"{len(parts[part]):,} {part}" for part in SPLITS if parts[part])
    try:
        with atomic_write(file) as stream:
            json.dump(content, stream, ensure_ascii=False, indent=0)
        print(f"{name}: images divided ({counts}), saved as {file}")
    except OSError as error:
        print(f"{name}: images divided ({counts}), not saved ({error}); the next run creates the same split")
